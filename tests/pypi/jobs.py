"""CI jobs: who they are to an issuer, and what they find in their environment (trusted-publishing §3)."""

from collections.abc import Mapping
from typing import Final

from tests.pypi.jwt import Claims
from tests.pypi.orders import Job, Kind

# Its own: an identity for PyPI's audience is for PyPI alone.
AUDIENCE: Final = "scripted"
ISSUERS: Final[Mapping[Kind, str]] = {
    "github": "https://token.actions.githubusercontent.com",
    "gitlab": "https://gitlab.com",
}
SHA: Final = "0123456789abcdef0123456789abcdef01234567"


def claims_of(job: Job, *, audience: str, jti: str, now_s: float) -> Claims:
    """Form what the job's platform says of it."""
    times = {"iat": int(now_s), "nbf": int(now_s), "exp": int(now_s) + job.life_s}
    common = {"iss": job.issuer or ISSUERS[job.kind], "aud": audience, "jti": jti, "sha": SHA, **times}
    return common | (_github(job) if job.kind == "github" else _gitlab(job))


def _github(job: Job) -> dict[str, object]:
    owner = job.repository.partition("/")[0]
    where = f"environment:{job.environment}" if job.environment else f"ref:{job.ref}"
    workflow = f"{job.repository}/.github/workflows/{job.workflow}@{job.ref}"
    return {
        "sub": f"repo:{job.repository}:{where}",
        "repository": job.repository,
        "repository_id": "1001",
        "repository_owner": owner,
        "repository_owner_id": job.owner_id,
        "job_workflow_ref": workflow,
        "workflow_ref": workflow,
        "ref": job.ref,
        "event_name": job.event,
        "actor": "ada",
        "run_id": "7",
        **({"environment": job.environment} if job.environment else {}),
    }


def _gitlab(job: Job) -> dict[str, object]:
    branch = job.ref.removeprefix("refs/heads/")
    return {
        "sub": f"project_path:{job.repository}:ref_type:branch:ref:{branch}",
        "project_path": job.repository,
        "namespace_id": job.owner_id,
        "ci_config_ref_uri": f"gitlab.com/{job.repository}//{job.workflow}@{job.ref}",
        "ref_path": job.ref,
        "ref": branch,
        **({"environment": job.environment} if job.environment else {}),
    }


def github_environment(job: Job, *, request_url: str, request_token: str) -> dict[str, str]:
    """Form what a step of the job finds in its environment; the URL has a query already, as GitHub's has."""
    environment = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": job.repository,
        "GITHUB_REF": job.ref,
        "GITHUB_SHA": SHA,
        "GITHUB_EVENT_NAME": job.event,
        "GITHUB_WORKFLOW_REF": f"{job.repository}/.github/workflows/{job.workflow}@{job.ref}",
        "GITHUB_RUN_ID": "7",
        "GITHUB_SERVER_URL": "https://github.com",
    }
    if job.permitted:
        environment["ACTIONS_ID_TOKEN_REQUEST_URL"] = request_url
        environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = request_token
    return environment


def gitlab_environment(job: Job, *, identity: str) -> dict[str, str]:
    """Form the same for GitLab, where the one identity token is there from the start."""
    environment = {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_PROJECT_PATH": job.repository,
        "CI_COMMIT_SHA": SHA,
        "CI_JOB_ID": "7",
    }
    if job.permitted:
        environment[f"{AUDIENCE.upper()}_ID_TOKEN"] = identity
    return environment
