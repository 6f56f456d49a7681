"""What experiments say and draw of what they measured: readings, pictures, pages, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from rich.console import Console

from analysis import console as screen
from analysis import (
    gantt,
    palette,
    recovery_analysis_plot,
    recovery_reading,
    recovery_time_analysis,
    report,
    results,
    throughput_analysis_plot,
)
from analysis.batch import Attempt, Save, TaskRun
from analysis.crew import Usage
from analysis.recovery import Plan, Recovery, Run, _losses
from analysis.throughput import Plan as ThroughputPlan
from analysis.throughput import Run as ThroughputRun
from analysis.throughput import Throughput, reading

MACHINE: dict[str, Any] = {"processor": "a test", "cores": 2, "usable_cores": 2}


THROUGHPUT_FILES = {"throughput-time.png", "throughput-rate.png", "throughput-speedup.png", "throughput.html"}


def _throughput(**changes: Any) -> Throughput:
    rates = {1: 10.0, 2: 19.0, 4: 19.5}
    runs = [
        ThroughputRun(n, repeat, 24 / rate, rate, Usage(0.01, 2.0, 0.0), [24 // n] * n, [])
        for repeat in (1, 2)
        for n, rate in rates.items()
    ]
    plan = ThroughputPlan(workers=[1, 2, 4], tasks=24, size=1e6, type="prime", repeats=2)
    return Throughput(**{"made_at": "now", "plan": plan, "machine": MACHINE, "runs": runs} | changes)


def _recovery() -> Recovery:
    attempts = [
        Attempt(1, "worker-1", "reclaimed", 0.0, 3.0, None, None, 0.1),
        Attempt(2, "worker-2", "completed", 3.1, 4.0, None, 1, None),
    ]
    lost = TaskRun(1, attempts, [Save(1, 1, 1.0, 1.0)])
    whole = TaskRun(1, [Attempt(1, "worker-1", "completed", 0.0, 2.0, 2.0, None, None)])
    names = ["worker-1", "worker-2"]
    plan = Plan([0, 1], 2, 1, 2.0, "paced", "kill", 0.5, False, 1)
    harmed = Run(1, 1, 4.0, 1.25, 0.6, 2.5, names, ["worker-1"], [lost], [])
    harmed.losses = list(_losses(lost, ["worker-1"], 1.25))
    undisturbed = Run(0, 1, 2.0, None, 0.0, 2.0, names, [], [whole], [])
    return Recovery(made_at="now", plan=plan, machine=MACHINE, runs=[undisturbed, harmed])


def test_the_reading_of_throughput_holds_the_machine_against_the_figures() -> None:
    said = " ".join(reading(_throughput()))

    assert "1.95 times as fast" in said
    assert "2 cores" in said
    assert "98% of what is possible" in said  # 1.95 of 2
    assert "All 144 answers were checked and are right." in said


def test_more_than_is_possible_is_said_to_be_no_result() -> None:
    data = _throughput()
    data.runs = [
        msgspec.structs.replace(run, throughput=run.throughput / 2) if run.workers == 1 else run
        for run in data.runs
    ]

    said = " ".join(reading(data))

    assert "195% of what is possible, which cannot be: something held the runs with 1 worker up" in said


def test_one_number_of_workers_is_compared_with_nothing() -> None:
    data = _throughput(plan=ThroughputPlan(workers=[1], tasks=24, size=1e6, type="prime", repeats=2))
    data.runs = [msgspec.structs.replace(run, seconds=0.01) for run in data.runs if run.workers == 1]

    said = " ".join(reading(data))

    assert "times as fast" not in said and "law" not in said
    assert "--workers 1,2,4" in said
    assert "So short a batch" in said


def test_two_numbers_of_workers_give_no_law_in_reading_and_tables(tmp_path: Path) -> None:
    data = _throughput()
    data.runs = [run for run in data.runs if run.workers < 4]

    page = throughput_analysis_plot.draw(data, tmp_path)[-1].read_text()

    assert "A scalability law is not fitted to 2 numbers of workers: it takes three" in page
    assert "contention" not in page and "never exceeds" not in page and "off on average" not in page


def test_three_numbers_of_workers_leave_nothing_to_judge_the_law_by(tmp_path: Path) -> None:
    page = throughput_analysis_plot.draw(_throughput(), tmp_path)[-1].read_text()

    assert "three numbers of workers leave nothing to judge the fit by" in page
    assert "off on average" not in page


def test_from_four_numbers_of_workers_on_the_fit_is_judged() -> None:
    data = _throughput()
    data.runs += [msgspec.structs.replace(run, workers=8, throughput=19.6) for run in data.runs[:2]]

    assert "off on average" in " ".join(reading(data))


def test_a_wrong_answer_is_said_aloud() -> None:
    data = _throughput()
    data.runs[0].wrong.append("task 3 answered 7 to {}")

    assert reading(data)[-1] == "WRONG: task 3 answered 7 to {}"


def test_a_wrong_answer_makes_the_command_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        screen.finish(Console(), ["WRONG: task 3 answered 7 to {}"], [], wrong=True)

    assert ended.value.code == 1
    assert "task 3 answered 7" in capsys.readouterr().out


def test_sleeping_tasks_are_not_limited_by_cores() -> None:
    data = _throughput()
    data.plan.type = "sleep"

    assert data.allowed(8) == 8
    assert data.cores is None


def test_the_reading_of_recovery_separates_missing_workers_from_the_price_of_recovery() -> None:
    said = " ".join(recovery_reading.reading(_recovery()))

    assert "4.0 s, +2.0 s (+100%)" in said
    assert "Having fewer workers alone explains 0.5 s" in said
    assert "1 task lost its worker. It was noticed after 1.75 s, and work went on after 1.85 s (" in said
    assert "1 of 2 workers killed (SIGKILL) in the middle of the work (asked for 50%, reached 60%)" in said


def test_the_page_of_recovery_tells_the_share_asked_for_from_the_share_reached(tmp_path: Path) -> None:
    page = recovery_analysis_plot.draw(_recovery(), tmp_path)[-1].read_text()

    assert "asked for 50%, reached 60%" in page
    assert "1 task of type paced" in page


def test_the_shares_reached_are_a_range_where_they_differ() -> None:
    harmed = _recovery().of(1)[0]
    later = msgspec.structs.replace(harmed, share_done=0.71)

    assert recovery_reading.reached([harmed, later]) == "60% to 71%"


def test_a_single_task_worker_and_core_have_no_s() -> None:
    machine = MACHINE | {"usable_cores": 1}
    plan = ThroughputPlan(workers=[1, 2, 4], tasks=1, size=1e6, type="prime", repeats=1)

    said = " ".join(reading(_throughput(plan=plan, machine=machine)))

    assert "1 task of type prime took" in said and "with 1 worker and" in said
    assert "1 core for them" in said and "(medians of 1 repeat)" in said
    assert "(s)" not in said


def test_throughput_leaves_pictures_and_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    written = throughput_analysis_plot.draw(_throughput(), tmp_path)

    _check_page(written)
    assert {path.name for path in written} == THROUGHPUT_FILES


def test_the_plots_can_be_drawn_again_from_the_file(tmp_path: Path) -> None:
    made = results.save(tmp_path / "throughput.json", _throughput())
    again = tmp_path / "again"

    throughput_analysis_plot.main([str(made), "--out", str(again)], standalone_mode=False)

    assert {path.name for path in again.iterdir()} == THROUGHPUT_FILES


def test_in_print_wide_tables_are_folded_and_not_cut_off(tmp_path: Path) -> None:
    page = report.write(tmp_path / "page.html", "a page", [], [], [], {}).read_text()

    in_print = page.partition("@media print")[2].partition("</style>")[0]
    assert ".wide { overflow: visible }" in in_print  # nobody can scroll paper
    assert "white-space: normal" in in_print


def test_recovery_leaves_pictures_and_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    written = recovery_analysis_plot.draw(_recovery(), tmp_path)

    _check_page(written)
    assert "recovery-gantt.png" in {path.name for path in written}


def test_a_run_that_was_not_made_is_not_drawn_as_another(tmp_path: Path) -> None:
    made = results.save(tmp_path / "recovery.json", _recovery())

    with pytest.raises(click.BadParameter, match="no run had 5 dead workers; there are 0, 1"):
        recovery_analysis_plot.main([str(made), "--gantt", "5", "--out", str(tmp_path)], standalone_mode=False)


def test_more_dead_than_there_are_workers_is_refused(tmp_path: Path) -> None:
    options = ["--workers", "2", "--dead-workers", "3", "--out", str(tmp_path)]

    with pytest.raises(click.BadParameter, match="3 of 2 workers cannot die"):
        recovery_time_analysis.main(options, standalone_mode=False)


def test_an_undisturbed_run_alone_can_be_drawn(tmp_path: Path) -> None:
    data = _recovery()
    data.runs = data.of(0)

    written = recovery_analysis_plot.draw(data, tmp_path)

    _check_page(written)
    assert [path.name for path in written] == ["recovery-time.png", "recovery-gantt.png", "recovery.html"]


@pytest.mark.parametrize(("losses", "labels"), [(1, ["a lost task"]), (2, ["a lost task", "median"])])
def test_a_median_is_drawn_behind_several_losses_and_is_in_the_legend(losses: int, labels: list[str]) -> None:
    data = _recovery()
    data.runs[1].losses *= losses
    made, (panel,) = palette.figure()

    recovery_analysis_plot._each(data, panel, lambda loss: loss.redone_seconds, 0.0, "red", "o", "a lost task")

    assert panel.get_legend_handles_labels()[1] == labels
    assert max(panel.lines, key=lambda line: line.get_zorder()).get_marker() == "o"
    palette.plt.close(made)


def test_neither_mark_nor_line_touches_the_upper_edge() -> None:
    made, (panel,) = palette.figure()
    panel.plot([1], [2.0], "o")
    panel.axhline(3.0)

    palette.from_zero(panel)

    assert panel.get_ylim() == pytest.approx((0, 3.3))
    palette.plt.close(made)


def test_a_resumed_bar_too_short_for_its_number_has_it_above() -> None:
    run = _recovery().of(1)[0]
    run.tasks[0].attempts[1].finished_at = 3.11  # began at 3.1
    made, (panel,) = palette.figure()

    gantt.draw(panel, run)

    rows = [(text.get_text(), text.get_position()[1]) for text in panel.texts if text.get_text()]
    assert rows == [("1", 0), ("1", pytest.approx(1 - 0.31))]
    palette.plt.close(made)


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    path = results.save(tmp_path / "recovery.json", _recovery())

    assert results.load(path, Recovery) == _recovery()


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(msgspec.json.encode({"kind": "other"}))

    with pytest.raises(ValueError, match=r"other\.json is not a file of this experiment"):
        results.load(path, Recovery)


def _check_page(written: list[Path]) -> None:
    *pictures, page = written
    text = page.read_text()
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert text.count("data:image/png;base64,") == len(pictures)
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<img alt=") == len(pictures)
