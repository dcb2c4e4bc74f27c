"""Files of limits: what is wrong in them is told with its place and what to do; what is right is loaded."""

from pathlib import Path

import pytest

from authz.config.problem import ConfigErrors
from authz.ratelimit.load import load_limits
from tests.docs.pages import DOCS, blocks

GOOD = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 1}}]\n"

WRONG = [
    # what stands in the file, where it is wrong, what is said
    ("descriptors: []", "1:1", "a file needs a domain; write `domain: NAME`"),
    ("domain: ''", "1:9", "a file needs a domain"),
    ("domain: [a]", "1:9", "domain is text, not a list"),
    ("domain: d\ndescriptor: []", "2:1", "unknown key `descriptor`; here may stand domain, descriptors (did"),
    ("domain: d\ndescriptors: {key: k}", "2:14", "descriptors is a list, not a mapping"),
    ("domain: d\ndescriptors:\n- k", "3:3", "a descriptor is a mapping with a `key`, not text"),
    ("domain: d\ndescriptors:\n- value: v", "3:3", "a descriptor needs a key; write `key: NAME`"),
    ("domain: d\ndescriptors:\n- key: k\n  shadow: true", "4:3", "unknown key `shadow`"),
    ("domain: d\ndescriptors:\n- key: k\n  shadow_mode: 1", "4:16", "shadow_mode is true or false, not a number"),
    ("domain: d\ndescriptors:\n- key: k\n- key: k", "4:8", "the descriptor `k` is there already; join the two"),
    ("domain: d\ndescriptors:\n- {key: k, value: v}\n- {key: k, value: v}", "4:9", "`k` with the value `v` is there"),
    ("domain: d\ndescriptors:\n- {key: k, value: 1}\n- {key: k, value: '1'}", "4:9", "`k` with the value `1` is there"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: 5}", "3:24", "a rate_limit is a mapping"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {requests_per_unit: 5}}", "3:12", "missing key `unit`; it is one of"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: hourly, requests_per_unit: 5}}", "3:31", "`hourly` is no unit; it is one of second, minute, hour, day, week, month, year (did you mean `hour`?)"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: unknown, requests_per_unit: 5}}", "3:31", "`unknown` is no unit"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day}}", "3:12", "missing key `requests_per_unit`; 0 refuses every request"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, requests_per_unit: -1}}", "3:55", "a whole number from 0 to 4294967295"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, requests_per_unit: 4294967296}}", "3:55", "a whole number from 0 to"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, requests_per_unit: '5'}}", "3:55", "a whole number from 0 to"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, unlimited: true}}", "3:31", "what is unlimited has no unit; remove `unit`, or `unlimited`"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unit: day, requests_per_unit: 1, shadow_mode: true}}", "3:58", "unknown key `shadow_mode`"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unlimited: true, replaces: [a]}}", "3:53", "an entry of replaces is `name: NAME`, not text"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unlimited: true, replaces: [{name: ''}]}}", "3:53", "needs the name of another limit"),
    ("domain: d\ndescriptors:\n- {key: k, rate_limit: {unlimited: true, name: a, replaces: [{name: a}]}}", "3:62", "a limit cannot replace itself"),
    ("domain: d\ndescriptors:\n- {key: k, value: v, share_threshold: true}", "3:39", "only values with a * share a threshold"),
    ("domain: d\ndescriptors:\n- {key: k, descriptors: [{key: k, rate_limit: {}}]}", "3:35", "missing key `unit`"),
    ("domain: d\ndomain: e", "2:1", "domain"),
    ("domain: d\n  descriptors: []", "2:14", "a colon cannot stand here"),
]  # fmt: skip


def load_one(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "l.yaml").write_text(text)
    with pytest.raises(ConfigErrors) as raised:
        load_limits(tmp_path, {})
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(("text", "place", "message"), WRONG, ids=range(len(WRONG)))
def test_a_mistake(tmp_path: Path, text: str, place: str, message: str) -> None:
    told = load_one(tmp_path, text)
    start = f"{tmp_path / 'l.yaml'}:{place}: "
    assert any(line.startswith(start) and message in line for line in told), told


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = load_one(tmp_path, "domian: d\ndescriptors:\n- key: k\n  rate_limit: {unit: x}\n- value: v\n")
    assert len(told) == 5


def test_a_domain_stands_in_one_file_unless_they_are_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("key: k", "key: l"))
    with pytest.raises(
        ConfigErrors, match=r"b.yml:1:9: the domain `d` is that of .*a.yaml too; join the files"
    ):
        load_limits(tmp_path, {})
    merged = load_limits(tmp_path, {"MERGE_DOMAIN_CONFIG": "true"}).rules["d"]
    assert set(merged.keys) == {"k", "l"}
    (tmp_path / "b.yml").write_text(GOOD)
    with pytest.raises(ConfigErrors, match=r"b.yml:2:21: the descriptor `k` is there already"):
        load_limits(tmp_path, {"MERGE_DOMAIN_CONFIG": "true"})


def test_only_files_of_limits_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not yaml: [")
    (tmp_path / ".hidden.yaml").write_text("not yaml: [")
    (tmp_path / "folder.yaml").mkdir()
    loaded = load_limits(tmp_path, {})
    assert list(loaded.rules) == ["d"]
    assert {tmp_path, tmp_path / "a.yaml"} <= loaded.files


def test_a_directory_without_limits_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"no file here ends in \.yaml; put the files of limits here"):
        load_limits(tmp_path, {})
    with pytest.raises(ConfigErrors, match="the directory cannot be read"):
        load_limits(tmp_path / "missing", {})


def test_words_of_yaml_1_1_are_switches(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        GOOD.replace("{key: k,", "{key: k, shadow_mode: Yes, detailed_metric: off,")
    )
    limit = load_limits(tmp_path, {}).rules["d"].keys["k"].limit
    assert limit is not None
    assert limit.shadow


def test_the_file_of_the_documentation(tmp_path: Path) -> None:
    (block,) = (found.text for found in blocks("text", [DOCS / "ratelimit.md"]) if "domain:" in found.text)
    (tmp_path / "edge.yaml").write_text(block)
    assert set(load_limits(tmp_path, {}).rules) == {"edge"}
