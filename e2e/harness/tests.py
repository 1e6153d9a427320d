#!/usr/bin/env python3
"""Tests of the harness itself, and of the two images' common layout. They need no cluster: `python3 e2e/harness/tests.py`."""

import contextlib
import http.client
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e"))

from harness import rows  # noqa: E402  (the path is set first)
from harness.front import Front, written  # noqa: E402
from harness.lanes import Lane, in_lanes  # noqa: E402
from harness.process import OperatorProcess  # noqa: E402
from harness.runner import Late, choose  # noqa: E402
from harness.scenario import Scenario  # noqa: E402
from harness.shell import Failed  # noqa: E402

spec = importlib.util.spec_from_file_location("oci", ROOT / "e2e/image/oci.py")
oci = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oci)


class Rows(unittest.TestCase):
    def test_order_does_not_count_and_floats_are_near(self) -> None:
        rows.assert_same([{"k": 2, "x": 1.0}, {"k": 1, "x": 0.1 + 0.2}], [{"k": 1, "x": 0.3}, {"k": 2, "x": 1}])

    def test_differences_are_found(self) -> None:
        expected = [{"k": 1, "x": 0.5}, {"k": 1, "x": 0.5}, {"k": 2, "x": None}]
        for got in (
            expected[1:],
            [*expected, expected[0]],
            [expected[0], expected[2], expected[2]],
            [{"k": 1, "x": 0.5000001}, *expected[1:]],
            [{"k": True, "x": 0.5}, *expected[1:]],
            [{"k": "1", "x": 0.5}, *expected[1:]],
            [{"k": 1}, *expected[1:]],
            [*expected[:2], {"k": 2, "x": 0.0}],
        ):
            with self.assertRaises(Failed, msg=str(got)):
                rows.assert_same(got, expected)

    def test_nothing_equals_nothing_is_no_check(self) -> None:
        with self.assertRaises(Failed):
            rows.assert_same([], [])


class Choice(unittest.TestCase):
    def test_scenarios_made_to_fail_run_only_by_name(self) -> None:
        for names in ([], ["all"]):
            self.assertFalse({"fails", "hangs"} & {one.name for one in choose(names)})
        self.assertEqual([one.name for one in choose(["fails"])], ["fails"])
        with self.assertRaises(SystemExit):
            choose(["no-such"])

    def test_every_scenario_has_a_title_and_a_limit(self) -> None:
        for one in choose(["all"]):
            self.assertTrue(one.module.__doc__ and one.deadline <= (600 if one.subset else 1800), one.name)


class Report(unittest.TestCase):
    def test_it_shows_what_a_container_said_before_its_last_restart(self) -> None:
        def kubectl(*words: object, **_: object) -> subprocess.CompletedProcess:
            return subprocess.CompletedProcess(words, 0, " ".join(map(str, words)), "")

        scenario = Scenario("x")
        scenario.kubectl_run = kubectl
        scenario.pods = lambda: [{"metadata": {"name": name}, "status": {"containerStatuses": [{"restartCount": count}]}}
                                 for name, count in (("again", 1), ("once", 0))]
        report = scenario.report()
        self.assertIn("log of again before its last restart:\nlogs again --previous", report)
        self.assertIn("log of once:\nlogs once --all-containers", report)
        self.assertNotIn("log of once before", report)


class CleanUp(unittest.TestCase):
    def test_a_step_that_fails_in_whatever_way_keeps_no_other_from_being_done(self) -> None:
        scenario, done = Scenario("x"), []
        scenario.kubectl_run = lambda *words, **_: done.append(words[0]) or subprocess.CompletedProcess(words, 0, "", "")
        scenario.undo(lambda: done.append("first"))
        scenario.undo(lambda: {}["absent"])
        scenario.undo(lambda: (_ for _ in ()).throw(Failed("as told")))
        with self.assertRaises(Failed) as told:
            scenario.clean_up()
        self.assertEqual(done, ["first", "delete"])
        self.assertIn("as told; KeyError: 'absent'", str(told.exception))


class Lanes(unittest.TestCase):
    def test_an_interruption_lets_nothing_more_begin(self) -> None:
        class Fake(Lane):
            def __init__(self) -> None:
                self.said = []

        begun, is_over = [], threading.Event()

        def work(_: Lane, item: int) -> None:
            begun.append(item)
            is_over.wait(10)

        def late(*_: object) -> None:
            raise Late("the time is over")

        before = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with self.assertRaises(Late):
                in_lanes([Fake()], [1, 2, 3], work)
        finally:
            signal.signal(signal.SIGALRM, before)
        is_over.set()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(1)
        self.assertEqual(begun, [1])

    def test_a_scenario_that_has_ended_starts_no_operator(self) -> None:
        scenario = Scenario("x")
        process = OperatorProcess(scenario, "somewhere")
        for undo in scenario._undo:
            undo()
        with self.assertRaises(Failed):
            process.start()


class Fronts(unittest.TestCase):
    """A front before a server that remembers what it was asked; the process to be killed is a `sleep`."""

    def setUp(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Remembers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                seen.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"2\r\nok\r\n0\r\n\r\n")

            do_GET = do_PUT

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Remembers)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.process = subprocess.Popen(["sleep", "60"])
        self.front = Front()
        self.front.pid = self.process.pid

    def tearDown(self) -> None:
        self.process.kill()
        self.process.wait()
        self.front.close()
        self.server.shutdown()
        self.server.server_close()

    def ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection(self.front.url.removeprefix("http://"), timeout=10)
        with contextlib.closing(connection):
            connection.request(method, f"http://127.0.0.1:{self.server.server_address[1]}{path}", b"x")
            return connection.getresponse().read()

    def test_it_dies_before_or_after_the_write_that_was_said_and_writes_no_more(self) -> None:
        for how, made in (("before", ["/1"]), ("after", ["/1", "/2"])):
            with self.subTest(how):
                self.front.arm(2, how)
                self.assertEqual(self.ask("PUT", "/1"), b"ok")
                self.assertEqual(self.ask("GET", "/read"), b"ok")
                with self.assertRaises(http.client.HTTPException):
                    self.ask("PUT", "/2")
                self.assertEqual(self.process.wait(5), -signal.SIGKILL)
                with self.assertRaises(http.client.HTTPException):
                    self.ask("PUT", "/3")
                self.assertEqual([path for path in self.seen if path != "/read"], made)
                self.assertEqual(self.front.hit.path, "/2")
                self.tearDown()
                self.setUp()

    def test_it_dies_at_a_write_of_the_kind_that_was_said(self) -> None:
        self.front.arm(2, "before", "PUT s3 journal")
        for path in ("/b/state/j/journal/1", "/b/out/j/x", "/b/out/j/y"):
            self.assertEqual(self.ask("PUT", path), b"ok")
        with self.assertRaises(http.client.HTTPException):
            self.ask("PUT", "/b/state/j/journal/2")
        self.assertEqual(self.front.hit.path, "/b/state/j/journal/2")

    def test_a_late_write_comes_after_the_death(self) -> None:
        self.front.arm(1, "late")
        with self.assertRaises(http.client.HTTPException):
            self.ask("PUT", "/1")
        self.assertEqual(self.process.wait(5), -signal.SIGKILL)
        self.assertEqual(self.seen, ["/1"])

    def test_what_is_written_has_a_kind(self) -> None:
        for method, uri, kind in (
            ("GET", "/api/v1/namespaces/n/pods", None),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/weir-shard-1", None),
            ("POST", "/api/v1/namespaces/n/pods?fieldManager=x", "POST pods"),
            ("PATCH", "/apis/weir.dev/v1alpha1/namespaces/n/statefuljobs/j/status", "PATCH statefuljobs/status"),
            ("PUT", "http://10.0.0.1:7070/bucket/state/j/journal/1/00000007", "PUT s3 journal"),
            ("PUT", "http://10.0.0.1:7070/bucket/out/j/rows/x.ndjson", "PUT s3 out"),
            ("POST", "http://10.0.0.1:7070/bucket?delete", "POST s3 many"),
        ):
            found = written(method, urllib.parse.urlsplit(uri))
            self.assertEqual(found and found.what, kind, uri)


class Image(unittest.TestCase):
    def test_the_dockerfile_takes_the_folder_that_root_sh_fills_and_nothing_else(self) -> None:
        text = (ROOT / "Dockerfile").read_text()
        build, last = re.split(r"^FROM scratch\n", text, flags=re.MULTILINE)
        self.assertIn("e2e/image/root.sh target/release/weir /image\n", build)
        self.assertEqual(re.findall(r"^(?:COPY|ADD|RUN).*$", last, flags=re.MULTILINE), ["COPY --from=build /image /"])
        settings = oci.last_stage(ROOT / "Dockerfile")
        self.assertEqual(settings["User"], "65532:65532")
        self.assertEqual(settings["Entrypoint"], ["/usr/bin/weir"])

    def test_the_folder_holds_the_program_with_all_its_libraries(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            subprocess.run([ROOT / "e2e/image/root.sh", "/bin/true", root], check=True)
            program = root / oci.last_stage(ROOT / "Dockerfile")["Entrypoint"][0].lstrip("/")
            self.assertTrue(program.stat().st_mode & 0o001)
            libraries = re.findall(r"/\S+", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout)
            self.assertTrue(libraries)
            for library in libraries:
                self.assertTrue((root / library.lstrip("/")).is_file(), library)
            self.assertEqual(oci.layer_of(root), oci.layer_of(root))

    def test_an_instruction_that_nobody_taught_it_is_refused(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix="file") as file:
            file.write("FROM scratch\nUSER 1\nVOLUME /x\n")
            file.flush()
            with self.assertRaises(SystemExit):
                oci.last_stage(Path(file.name))


if __name__ == "__main__":
    unittest.main()
