#!/usr/bin/env python3
"""Tests of the harness itself, and of the two images' common layout. They need no cluster: `python3 e2e/harness/tests.py`."""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e"))

from harness import rows  # noqa: E402  (the path is set first)
from harness.runner import choose  # noqa: E402
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
            self.assertTrue(one.module.__doc__ and one.deadline <= 1200, one.name)


class Report(unittest.TestCase):
    def test_it_shows_what_a_container_said_before_its_last_restart(self) -> None:
        def kubectl(*words: object, **_: object) -> subprocess.CompletedProcess:
            pods = {"items": [{"metadata": {"name": name}, "status": {"containerStatuses": [{"restartCount": count}]}}
                              for name, count in (("again", 1), ("once", 0))]}
            said = json.dumps(pods) if words[:3] == ("get", "pods", "-o") else " ".join(map(str, words))
            return subprocess.CompletedProcess(words, 0, said, "")

        scenario = Scenario("x")
        scenario.kubectl_run = kubectl
        report = scenario.report()
        self.assertIn("log of again before its last restart:\nlogs again --previous", report)
        self.assertIn("log of once:\nlogs once --all-containers", report)
        self.assertNotIn("log of once before", report)


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
