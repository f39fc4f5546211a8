"""Files: staged downloads beside nginx, uploads beside the bare counterpart, and what an upload costs the server."""

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from tests.bench.load import Client
from tests.bench.pages import big_wheel, seed
from tests.bench.processes import BOTH_CORES, LOAD_CORE, Served, bare, free_port, has_nginx, nginx, overlay
from tests.bench.rows import Row, ratio
from tests.bench.warm import PLAIN, Plan, upstream_pages
from tests.builders import Built
from tests.running import ADMIN, basic

_BOUNDARY = "a-boundary-that-no-random-bytes-hold"
_MIB = 1 << 20


def upload(client: Client, built: Built, path: str = "/legacy/") -> float:
    """Upload as twine does; return the seconds it took, without forming the body."""
    name, version = built.filename.split("-")[:2]
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "filetype": "bdist_wheel",
        "name": name,
        "version": version,
        "sha256_digest": built.sha256,
    }
    parts = [_part(f'name="{key}"', value.encode()) for key, value in fields.items()]
    parts.append(_part(f'name="content"; filename="{built.filename}"', built.body))
    body = b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
    headers = {**basic(ADMIN), "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return client.post(path, headers, body)


def downloads(plan: Plan) -> Iterator[Row]:
    """A staged file of 100 MB."""
    built = big_wheel("demo", "1.0", 100 * _MIB)
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, [], cores=LOAD_CORE))
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url))
        client = stack.enter_context(Client(ours))
        upload(client, built)
        (blob,) = (plan.folder / "store" / "blobs").glob("*/*.whl")
        path = f"/files/demo/{blob.parent.name}/{blob.name}"
        copy = [Served("/file", {}, built.body, streamed=True)]
        other = stack.enter_context(nginx(plan.folder, copy, free_port()) if has_nginx() else bare(plan.folder, copy))
        static = stack.enter_context(Client(other))
        speeds: tuple[list[float], list[float]] = ([], [])
        for _ in range(plan.rounds * 2):
            speeds[0].append(1 / client.drain(path, {}))
            speeds[1].append(1 / static.drain("/file", {}))
        name = "nginx" if has_nginx() else "FileResponse"
        yield Row(f"staged 100 MB download vs {name}", ratio(*speeds), "x", 0.80, 0.60)


def uploads(plan: Plan) -> Iterator[Row]:
    """An upload of 200 MB, beside one that is hashed and written and no more; and memory.

    Both servers have both cores: a hash in a thread of its own shows only there.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, [], cores=LOAD_CORE))
        ours = stack.enter_context(overlay(plan.folder / "store", upstream.url, cores=BOTH_CORES))
        counterpart = stack.enter_context(bare(plan.folder, [], cores=BOTH_CORES))
        client, other = stack.enter_context(Client(ours)), stack.enter_context(Client(counterpart))
        upload(client, big_wheel("warm", "1.0", _MIB))
        upload(other, big_wheel("warm", "1.0", _MIB))
        speeds: tuple[list[float], list[float]] = ([], [])
        risen_mib = []
        for number in range(plan.rounds):
            built = big_wheel("demo", f"1.{number}", 200 * _MIB)
            before_mib = ours.memory_mib
            ours.forget_peak()
            speeds[0].append(1 / upload(client, built))
            risen_mib.append(ours.peak_mib - before_mib)
            speeds[1].append(1 / upload(other, built))
        note = f"{200 * median(speeds[0]):.0f} of {200 * median(speeds[1]):.0f} MB/s"
        yield Row("200 MB upload vs bare multipart, sha256, disk", ratio(*speeds), "x", 1.5, 0.90, note=note)
        yield Row("... memory for it", median(risen_mib), "MiB", 16, 16, lower=True)


def small_uploads(plan: Plan) -> Iterator[Row]:
    """Uploads of 1 MB: the server's CPU time; and whether it grows with what is staged."""
    store, each = plan.folder / "store", 10
    seed(store, "many", 1000)
    with ExitStack() as stack:
        upstream = stack.enter_context(bare(plan.folder, upstream_pages("small"), cores=LOAD_CORE))
        ours = stack.enter_context(overlay(store, upstream.url))
        client = stack.enter_context(Client(ours))
        client.get("/simple/many/", PLAIN)
        cpu_ms: dict[str, list[float]] = {"few": [], "many": []}
        for number in range(plan.rounds):
            for project, used_ms in cpu_ms.items():
                wheels = [big_wheel(project, f"1.{number}.{one}", _MIB) for one in range(each)]
                upload(client, big_wheel(project, f"2.{number}", _MIB))
                before_s = ours.cpu_s
                for built in wheels:
                    upload(client, built)
                used_ms.append((ours.cpu_s - before_s) * 1000 / each)
        yield Row("1 MB upload, server CPU each", median(cpu_ms["few"]), "ms", 10, 20, lower=True)
        growth = ratio(cpu_ms["many"], cpu_ms["few"])
        yield Row("upload cost at 1000 staged files vs at a few", growth, "x", 1.2, 1.5, lower=True)


def _part(disposition: str, body: bytes) -> bytes:
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + body + b"\r\n"
