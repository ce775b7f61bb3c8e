"""Decide whether a drift report asks for fresh data. Edge-triggered, with a memory.

    stable ──drifted──> Ask, once ──> drift lasts: Hold ──stable, or another version serves──> the next drift may ask again
                  └─ in cool-down or over budget: Hold, and the same report is considered again at the next tick

Pure: report, memory and time in, answer and new memory out. The memory is JSON and lives in the sensor's cursor; starting
the ingest is `defs/sensors`'. An ask is for an *ingest*: the same rows give the same manifest id, and then nothing trains.
"""

from datetime import UTC, datetime, timedelta

from pydantic import Field

from zebra_assets.contracts.model_spec import DriftSpec
from zebra_assets.contracts.names import Version
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.verdicts import DriftReport

WEEK = timedelta(days=7)


class Ask(Noun):
    """Ingest now. `run_key` names this report and this attempt, so a tick that is repeated asks for the same run."""

    run_key: str
    reason: str
    report_id: str
    seq: int
    at: datetime


class Hold(Noun):
    """Do nothing, because."""

    reason: str


class RetrainMemory(Noun):
    """What the policy knows between two ticks.

    `last_seq` is where reading goes on. A drift that cool-down or budget held back is not read past, so it is asked for
    when they allow, without waiting for another report.
    """

    last_seq: int = 0
    version: Version | None = Field(default=None, description="The version whose drift is remembered.")
    open_ask: Ask | None = Field(default=None, description="The ask that answered the present drift; None while nothing did.")
    asked: int = Field(default=0, description="Asks ever made: the attempt in a run key.")
    asked_at: list[datetime] = Field(default_factory=list, description="Asks of the last seven days, oldest first.")


def consider(report: DriftReport, seq: int, memory: RetrainMemory, drift: DriftSpec, now: datetime) -> tuple[Ask | Hold, RetrainMemory]:
    """Answer one report.

    Args:
        report: the verdict on a window.
        seq: its sequence number among the model's reports; orders them, as clocks do not.
        memory: what the last call returned, or `RetrainMemory()`.
        drift: the model's cool-down and weekly budget.
        now: the present time, with a time zone.

    A stable report ends a drift; an unknown one neither begins nor ends it. A drift that lasts asks once, all night long,
    until it has ended or another version serves: asking again would only read the same source again.
    """
    if seq <= memory.last_seq:
        return Hold(reason=f"report {report.id} was considered before"), memory
    read = memory.model_copy(update={"last_seq": seq})
    if report.state == "unknown":
        return Hold(reason=f"unknown: {report.reason}"), read
    if report.state == "stable":
        return Hold(reason=f"no drift: {report.reason}"), read.model_copy(update={"version": report.version, "open_ask": None})

    answered = memory.open_ask if memory.version == report.version else None
    if answered:
        return Hold(reason=f"drift of v{report.version} lasts; fresh data was asked for at {_clock(answered.at)}"), read
    drifting = memory.model_copy(update={"last_seq": seq - 1, "version": report.version, "open_ask": None})
    recent = [t for t in memory.asked_at if now - t < WEEK]
    if recent and now < (until := recent[-1] + timedelta(minutes=drift.cooldown_minutes)):
        return Hold(reason=f"cool-down until {_clock(until)}: {report.reason}"), drifting
    if len(recent) >= drift.budget_per_week:
        return Hold(reason=f"{len(recent)} of {drift.budget_per_week} asks of this week are used up: {report.reason}"), drifting

    attempt = memory.asked + 1
    ask = Ask(run_key=f"drift:{report.model}:{report.id}:{attempt}", reason=report.reason, report_id=report.id, seq=seq, at=now)
    return ask, read.model_copy(update={"version": report.version, "open_ask": ask, "asked": attempt, "asked_at": [*recent, now]})


def failed(memory: RetrainMemory, run_key: str) -> RetrainMemory:
    """The memory after the run of an ask has failed: the drift is unanswered, and its report is considered again.

    Dagster remembers a run key even when its run fails, so the next ask carries another attempt. Cool-down and budget still
    apply, which bounds how often a broken source is tried. A key other than the open ask's changes nothing.
    """
    ask = memory.open_ask
    if ask is None or ask.run_key != run_key:
        return memory
    return memory.model_copy(update={"open_ask": None, "last_seq": ask.seq - 1})


def _clock(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
