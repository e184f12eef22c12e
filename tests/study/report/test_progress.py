import io

import pytest
from rich.console import Console

from zostudy.config.loading import from_document
from zostudy.stage import Progress
from zostudy.study import points
from zostudy.study.points import Failure, Notice, Point, TrialOutcome
from zostudy.study.report import progress


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=200, highlight=False)


def shown(screen: Console) -> str:
    return screen.file.getvalue()


def point() -> Point:
    parameters = {"prune.source": ["none"], "prune.xi": [0.25]}
    return points.first(from_document({"study": "s", "sweep": {"parameters": parameters}}))


def notices(reporter: progress.Reporter, tick) -> None:
    begun = Notice(1, 3, point(), 0)
    outcome = TrialOutcome({"validation_accuracy": 95.126, "macs": 1.0}, {}, "r")
    with reporter:
        reporter.notice(begun)
        for epoch in range(1, 5):
            tick(4)
            reporter.report(Progress("search", epoch, 4, {"train_accuracy": 10.0 * epoch}))
        tick(4)
        reporter.report(Progress("evaluate", 1, 1, {"train_loss": 0.51234}))
        reporter.notice(Notice(1, 3, point(), 0, outcome, done=1))
        reporter.notice(Notice(2, 3, point(), 1))
        reporter.notice(Notice(2, 3, point(), 1, Failure("[b]disk full"), done=2))


def test_plain_lines_tell_trial_phase_epoch_accuracy_and_time_left(screen):
    now = 100.0

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    notices(progress.LineReporter(screen, clock=lambda: now), tick)
    assert shown(screen).splitlines() == [
        "[1/3] prune.source=none prune.xi=0.25, seed 0",
        "[1/3] search 3/4, train accuracy 30.00 %, about 0:04 left in this phase",
        "[1/3] search 4/4, train accuracy 40.00 %",
        "[1/3] evaluate 1/1, train loss 0.5123",
        "[1/3] complete, validation accuracy 95.13 % (0:20; about 0:40 left)",
        "[2/3] prune.source=none prune.xi=0.25, seed 1",
        "[2/3] failed: [b]disk full (0:00; about 0:10 left)",
    ]


def test_a_terminal_gets_bars_and_a_line_for_every_trial_that_ended():
    screen = Console(file=io.StringIO(), width=160, force_terminal=True, highlight=False)
    reporter = progress.reporter(screen)
    assert isinstance(reporter, progress.BarReporter)
    notices(reporter, lambda _: None)
    text = shown(screen)
    assert "prune.source=none prune.xi=0.25, seed 0: complete, validation accuracy 95.13 %" in text
    assert "failed: [b]disk full" in text


def test_a_pipe_gets_lines(screen):
    assert isinstance(progress.reporter(screen), progress.LineReporter)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_wait_for_another_process_is_shown(terminal):
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    now = iter(range(0, 1000, 11))
    reporter = (
        progress.BarReporter(screen)
        if terminal
        else progress.LineReporter(screen, lambda: float(next(now)))
    )
    with reporter:
        reporter.notice(Notice(1, 3, point(), 0))
        reporter.report(Progress("prune", 0, 1, note="waits for process 7 on here"))
        if terminal:
            reporter._bars.refresh()
    assert "waits for process 7 on here" in screen.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_several_workers_are_shown_beside_each_other(terminal):
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=160, highlight=False)
    with progress.reporter(screen) as reporter:
        one, two = reporter.beside(), reporter.beside()
        one.notice(Notice(1, 2, point(), 0))
        two.notice(Notice(2, 2, point(), 1))
        one.report(Progress("search", 1, 1))
        two.report(Progress("evaluate", 1, 1))
        if terminal:
            one._bars.refresh()
        two.notice(Notice(2, 2, point(), 1, Failure("NaN"), done=1))
        one.notice(Notice(1, 2, point(), 0, Failure("killed"), done=2))
        reporter.say("worker 2 ended")
    text = shown(screen)
    for part in ("search", "evaluate", "[1/2]", "[2/2]", "failed: NaN", "worker 2 ended"):
        assert part in text
