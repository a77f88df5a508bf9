"""Which version is the champion, why, and how to change that."""

import json
from typing import Annotated, Any

import typer

from flows.cli.app import MODEL, AsJson, Params, Target, app, begin, enter, target_of
from tasks.runtime import paths
from transfer.core.errors import CrosstrainError, SettingsError

Version = Annotated[int | None, typer.Argument(help="Number of the version; the champion's.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the ledger.")]


@app.command(rich_help_panel=MODEL, epilog="Example: crosstrain history --target digits")
def history(target: Target = None, as_json: AsJson = False) -> None:
    """Show every promotion, refusal and rollback: who, when, what, why."""
    enter()
    from tasks.registry import versions

    name = versions.name_of(target_of(target))
    events = versions.history(name)
    if as_json:
        print(json.dumps(events, indent=1))
        return
    if not events:
        print(f"nothing was ever promoted or refused for {name}")
    for event in events:
        before = event["champion_before"]
        forced = f", FORCED: {event['forced_reason']}" if event.get("forced_reason") else ""
        print(
            f"{event['when']}  version {event['version']} {event['event']}"
            f" (champion before: {before or 'none'}{forced})"
        )
        print(f"    by {event.get('who') or 'unknown'}")
        for reason in event["reasons"]:
            print(f"    - {reason}")


@app.command(
    rich_help_panel=MODEL,
    epilog='Example: crosstrain rollback --target digits --reason "it confuses 1 and 7"',
)
def rollback(reason: Reason, target: Target = None) -> None:
    """Make the previous champion champion again."""
    enter()
    from tasks.registry import versions
    from tasks.runtime.user import at_a_terminal

    done = versions.rollback(versions.name_of(target_of(target)), reason, who=at_a_terminal())
    print(f"{done.name}: {done.message}; it was version {done.replaced}")


@app.command(
    rich_help_panel=MODEL,
    epilog='Example: crosstrain promote 3 --target digits --force --reason "the fair is tomorrow"',
)
def promote(
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    target: Target = None,
    reason: Reason = "",
    force: Annotated[bool, typer.Option(help="Promote against the rules; needs a reason.")] = False,
    params: Params = paths.PARAMS,
) -> None:
    """Judge a registered version again, and promote it when the rules hold."""
    if force and not reason.strip():
        raise SettingsError("--force needs --reason; it goes into the ledger")
    if reason and not force:
        raise SettingsError("--reason has no effect without --force: the rules give the reasons")
    begin()
    name = target_of(target, params)
    from flows import promote as flow
    from flows.runtime.run_flow import run
    from transfer.settings import project as typed

    settings = typed.load(params)
    outcome = run(lambda: flow.promote(name, version, settings, reason if force else ""))
    state = "is champion" if outcome.promoted else "was not promoted"
    print(f"version {version} of crosstrain-{name} {state}")
    for line in outcome.reasons:
        print(f"- {line}")


@app.command(rich_help_panel=MODEL, epilog="Example: crosstrain bless 3 --verify --target digits")
def bless(
    version: Version = None,
    target: Target = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute the record; exit 5 when it does not hold.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the record of why a version was promoted or refused, or recompute it."""
    enter()
    from tasks.registry import audit_record as records
    from tasks.registry import versions

    dataset = target_of(target)
    name = versions.name_of(dataset)
    number = version or versions.champion_of(dataset).version
    if not verify:
        print(json.dumps(records.record_of(name, number), indent=1))
        return
    checks = records.verify(name, number)
    held = records.holds(checks)
    if as_json:
        verdict: dict[str, Any] = {"model": name, "version": number, "holds": held}
        print(json.dumps(verdict | {"checks": [check._asdict() for check in checks]}, indent=1))
    else:
        for check in checks:
            print(f"{check.status:12} {check.what:32} {check.detail}")
    if not held:
        raise CrosstrainError(f"the record of version {number} of {name} does not hold")
    if not as_json:
        print(f"the record of version {number} of {name} holds")
