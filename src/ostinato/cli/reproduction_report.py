"""The verdict on a finished rerun, as it is recorded and as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostinato.cli.differences_text import exact
from ostinato.experiment import differences as found
from ostinato.experiment import reproduction
from ostinato.experiment.facts import run_facts
from ostinato.experiment.prediction import group_of, like_its_group
from ostinato.experiment.rerun_folder import origin_of
from ostinato.experiment.row_differences import compare_rows, rows_of
from ostinato.experiment.status import utc_now
from ostinato.experiment.workplace import Workplace

if TYPE_CHECKING:
    from ostinato.cli.reproducing import Reproduction


def judged(one: Reproduction, place: Workplace) -> dict[str, Any]:
    """The comparison, the verdict and the causes, as they are recorded."""
    request, rerun = one.request, found.metadata_of(one.folder)
    rows = compare_rows(one.original, rows_of(one.folder), request.tolerance, one.until)
    tensors = reproduction.compare_tensors(one.run, one.folder, request.begin, one.until)
    like, reason = (False, "")
    if rows.first_beyond is not None and request.full:
        like, reason = like_its_group(one.folder, group_of(one.run))
    verdict = reproduction.verdict(rows, tensors, like)
    required = reproduction.required_level(request.require, one.metadata.get("numerics"), bool(one.drift))
    differences: dict[str, Any] = {kind: [] for kind in ("packages", "hardware", "threads")}
    for entry in one.drift:
        differences[entry["kind"]].append(entry)
    differences["config"] = [
        entry for entry in found.config_differences(one.run, one.folder) if entry["name"] != "model.init_from"
    ]
    differences["code"] = found.code_differences(one.run, one.folder) if request.current_code else []
    differences["data"] = found.data_differences(one.metadata, rerun)
    notes = [*run_facts(one.run)["would_stop_a_reproduction"]]
    causes = reproduction.likely_causes(request.overrides, differences, notes, rows.first)
    return {
        "version": 1,
        "created": utc_now(),
        "original": origin_of(one.metadata),
        "rerun": {**origin_of(rerun), "folder": str(one.folder)},
        "verdict": verdict,
        "required": required,
        "met": reproduction.is_met(verdict, required),
        "from_checkpoint": request.begin or None,
        "until": one.until,
        "steps": rows.steps,
        "evaluations": rows.evaluations,
        "first_difference": rows.first.to_dict() if rows.first else None,
        "first_beyond_tolerance": rows.first_beyond.to_dict() if rows.first_beyond else None,
        "tolerance": {"relative": request.tolerance.relative, "absolute": request.tolerance.absolute},
        "checkpoint": tensors and {"step": tensors.step, "tensors": tensors.count, "differing": tensors.differing},
        "statistical": reason or None,
        "causes": causes if verdict != reproduction.BITWISE else [],
        "overrides": list(request.overrides),
        "environment_drift": one.drift,
        "code": "current" if request.current_code else place.trees,
        "not_captured": place.not_captured,
    }


def report_text(report: dict[str, Any]) -> str:
    """The verdict first, then what it rests on."""
    first, at = report["first_difference"], ""
    if first is not None:
        at = f" at step {first['step']}: {first['field']} is {exact(first['b'])}, and was {exact(first['a'])}"
    where = at if report["verdict"] == "DIVERGED" else ""
    lines = [f"{report['verdict']}{where}"]
    lines.append(
        f"  compared   {report['steps']} steps and {report['evaluations']} evaluations of {report['original']['run']}"
    )
    checkpoint = report["checkpoint"]
    if checkpoint is None:
        lines.append("  tensors    not compared: no checkpoint of a step that both have")
    else:
        differing = checkpoint["differing"]
        told = f"{len(differing)} differ ({differing[0]}, ...)" if differing else "all equal"
        lines.append(f"  tensors    {told} of {checkpoint['tensors']} in the checkpoint of step {checkpoint['step']}")
    if first is not None and not where:
        lines.append(f"  rows part  {at.strip()}")
    if report["verdict"] != "BITWISE":
        for number, cause in enumerate(report["causes"], start=1):
            lines.append(f"  {'causes' if number == 1 else '':<10} {number}. {cause['cause']}")
    if report["statistical"]:
        lines.append(f"  statistics {report['statistical']}")
    if report["environment_drift"]:
        lines.append(f"  drift      {len(report['environment_drift'])} differences of the environment were allowed")
    lines.append(f"  required   {report['required']}: {'met' if report['met'] else 'not met'}")
    lines.append(f"  rerun      {report['rerun']['folder']}")
    return "\n".join(lines)
