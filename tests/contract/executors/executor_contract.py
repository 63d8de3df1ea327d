"""What every executor must do, in acts that each turns into a launch of its own kind (see `dummy.py` for the acts)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from dstack_runner.executors.base import Executor, Exit, Launch, Running, StartFailed

LONG_S = 20.0


class Play:
    """A started launch with a reader on its output, as a runner has it."""

    def __init__(self, running: Running, ears: int) -> None:
        self.running = running
        self.output = b""
        self.has_output = threading.Event()
        self.reader = threading.Thread(target=self._read, args=(ears,))
        self.reader.start()

    def _read(self, ears: int) -> None:
        while part := os.read(ears, 65536):
            self.output += part
            self.has_output.set()
        os.close(ears)

    def end(self, timeout_s: float = LONG_S) -> Exit:
        end = self.running.wait(timeout_s)
        assert end is not None, "it did not end in time"
        self.reader.join(timeout_s)
        assert not self.reader.is_alive(), "somebody still holds the output open"
        return end


class ExecutorContract:
    """Subclasses give the fixtures `executor`, and `launch_of`, which turns acts into a Launch."""

    @pytest.fixture
    def play(self, executor: Executor, launch_of):
        started: list[Play] = []

        def play(*acts: str) -> Play:
            ears, mouth = os.pipe()
            try:
                running = executor.start(launch_of(*acts), mouth)
            except BaseException:
                os.close(ears)
                raise
            finally:
                os.close(mouth)
            started.append(Play(running, ears))
            return started[-1]

        yield play
        for one in started:
            one.running.kill()
            with contextlib.suppress(AssertionError):
                one.end()

    def test_it_ends_with_its_exit_code_and_output(self, play) -> None:
        one = play("print:hello", "print:world", "exit:3")
        assert one.end() == Exit(3)
        assert one.output == b"hello\nworld\n"

    def test_success_is_exit_code_zero(self, play) -> None:
        end = play("print:x").end()
        assert end.is_success
        assert end.shell_code == 0

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_a_signal_is_told_as_such(self, play, number: int) -> None:
        end = play(f"signal:{int(number)}").end()
        assert (end.code, end.signal, end.out_of_memory) == (None, number, False)
        assert end.shell_code == 128 + number

    def test_an_end_is_the_same_for_ever(self, play) -> None:
        one = play("exit:4")
        assert one.end() == one.running.wait() == one.running.wait(0) == Exit(4)

    def test_waiting_gives_up_in_time_and_can_be_repeated(self, play) -> None:
        one = play("print:on", "forever")
        assert one.running.wait(0) is None
        begun = time.monotonic()
        assert one.running.wait(0.1) is None
        assert 0.05 < time.monotonic() - begun < 5

    def test_a_failed_start_raises_and_leaves_nothing(self, play) -> None:
        with pytest.raises(StartFailed) as caught:
            play("start-fails")
        assert caught.value.message

    def test_stop_ends_it_by_term(self, play) -> None:
        one = play("print:on", "forever")
        assert one.has_output.wait(LONG_S)
        one.running.stop(LONG_S)
        assert one.end().signal == signal.SIGTERM

    def test_who_ignores_term_is_killed_after_the_grace(self, play) -> None:
        one = play("ignore-term", "print:on", "forever")
        assert one.has_output.wait(LONG_S)
        begun = time.monotonic()
        one.running.stop(0.4)
        end = one.end()
        assert 0.35 < time.monotonic() - begun < 5
        assert (end.signal, end.out_of_memory) == (signal.SIGKILL, False)

    def test_a_second_stop_only_shortens_the_grace(self, play) -> None:
        one = play("ignore-term", "print:on", "forever")
        assert one.has_output.wait(LONG_S)
        begun = time.monotonic()
        one.running.stop(LONG_S)
        one.running.stop(0.2)
        one.running.stop(LONG_S)
        assert one.end().signal == signal.SIGKILL
        assert time.monotonic() - begun < 5

    def test_kill_ends_it_at_once(self, play) -> None:
        one = play("ignore-term", "print:on", "forever")
        assert one.has_output.wait(LONG_S)
        one.running.stop(LONG_S)
        one.running.kill()
        assert one.end(5).signal == signal.SIGKILL

    def test_stop_and_kill_after_the_end_change_nothing(self, play) -> None:
        one = play("exit:0")
        one.end()
        one.running.stop(1)
        one.running.kill()
        one.running.kill()
        assert one.running.wait() == Exit(0)

    def test_it_may_be_stopped_while_another_thread_waits(self, play) -> None:
        one = play("print:on", "forever")
        ends: list[Exit | None] = []
        waiter = threading.Thread(target=lambda: ends.append(one.running.wait(LONG_S)))
        waiter.start()
        assert one.has_output.wait(LONG_S)
        one.running.stop(LONG_S)
        waiter.join(LONG_S)
        assert [end.signal for end in ends if end] == [signal.SIGTERM]

    def test_a_burst_arrives_whole(self, play) -> None:
        one = play("burst:3000000")
        assert one.end().is_success
        assert len(one.output) == 3_000_000

    def test_it_ends_though_nobody_reads(self, executor: Executor, launch_of) -> None:
        ears, mouth = os.pipe()
        running = executor.start(launch_of("burst:3000000"), mouth)
        os.close(mouth)
        running.stop(0)
        end = running.wait(LONG_S)
        os.close(ears)
        assert end is not None
        assert not end.is_success

    def test_what_outlives_the_main_process_is_counted_and_gone(self, play) -> None:
        assert play("leftovers:2", "exit:5").end() == Exit(5, leftovers=2)

    def test_launches_run_side_by_side(self, play) -> None:
        slow = play("print:on", "forever")
        assert slow.has_output.wait(LONG_S)
        assert play("exit:1").end() == Exit(1)
        assert slow.running.wait(0) is None

    def test_launch_values_are_frozen(self, launch_of) -> None:
        launch: Launch = launch_of("exit:0")
        with pytest.raises(AttributeError):
            launch.scope = "other"  # type: ignore[misc]
