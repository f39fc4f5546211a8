"""`overlay token`, `overlay reconcile` and `overlay sweep`: for whoever holds an admin token."""

import argparse
import os
import sys
from urllib.parse import quote

from overlay.cli.client import Call, Server, order, run, server
from overlay.cli.manage import print_json
from overlay.cli.outcome import DONE
from overlay.cli.tables import printable, table
from overlay.domain.quantities import count_words, minute_words, size_words
from overlay.domain.wire import (
    MAIN_STAGE,
    ReconciledView,
    SweepOrder,
    SweptView,
    TokenCreated,
    TokenList,
    TokenOrder,
)

_NEVER = "never"


def create_token(arguments: argparse.Namespace) -> int:
    """Create a token; its text alone goes to stdout, so that it can be caught in a variable."""
    wanted = TokenOrder(
        label=arguments.label,
        rights=tuple(arguments.rights),
        projects=tuple(arguments.projects or ()),
        stages=tuple(arguments.stages or (MAIN_STAGE,)),
        expires_in_s=arguments.expires_in_s,
    )
    created = run(_server(arguments), Call(method="POST", path="/tokens", order=wanted), TokenCreated)
    if arguments.json:
        print_json(created)
        return DONE
    ends = minute_words(created.token.expires_at) if created.token.expires_at is not None else _NEVER
    sys.stderr.write(f"Token {printable(created.token.id)}, expires: {ends}. Keep the text, it is not shown again:\n")
    print(printable(created.text))
    return DONE


def list_tokens(arguments: argparse.Namespace) -> int:
    """Print the tokens, without their texts."""
    held = run(_server(arguments), Call(method="GET", path="/tokens"), TokenList)
    if arguments.json:
        print_json(held)
        return DONE
    if not held.tokens:
        print("No token is stored.")
        return DONE
    rows = [
        (
            token.id,
            token.label,
            ",".join(token.rights),
            ",".join(token.projects),
            ",".join(token.stages),
            minute_words(token.created_at),
            minute_words(token.expires_at) if token.expires_at is not None else _NEVER,
        )
        for token in held.tokens
    ]
    print(table(("ID", "LABEL", "RIGHTS", "PROJECTS", "STAGES", "CREATED", "EXPIRES"), rows), end="")
    return DONE


def revoke_token(arguments: argparse.Namespace) -> int:
    """Revoke a token."""
    order(_server(arguments), Call(method="DELETE", path=f"/tokens/{quote(arguments.id, safe='')}"))
    print(f"Revoked {printable(arguments.id)}.")
    return DONE


def sweep(arguments: argparse.Namespace) -> int:
    """Sweep, and say what was deleted."""
    wanted = SweepOrder(older_than_s=arguments.older_than_s, dry_run=arguments.dry_run)
    swept = run(_server(arguments), Call(method="POST", path="/sweep", order=wanted), SweptView)
    if arguments.json:
        print_json(swept)
    else:
        verb = "Would delete" if swept.dry_run else "Deleted"
        print(f"{verb} {count_words(swept.blobs, 'blob')}, {size_words(swept.size_bytes)}.")
        if swept.abandoned:
            print(f"Ended {count_words(swept.abandoned, 'unfinished upload')}.")
    return DONE


def reconcile(arguments: argparse.Namespace) -> int:
    """Reconcile, and say what had to be looked at."""
    reconciled = run(_server(arguments), Call(method="POST", path="/reconcile"), ReconciledView)
    if arguments.json:
        print_json(reconciled)
    elif reconciled.projects or reconciled.tokens:
        projects, tokens = count_words(reconciled.projects, "project"), count_words(reconciled.tokens, "token")
        print(f"Looked again at {projects} and {tokens}; the ledger agrees with the records now.")
    else:
        print("The ledger agrees with the records.")
    return DONE


def _server(arguments: argparse.Namespace) -> Server:
    return server(arguments.url, os.environ)
