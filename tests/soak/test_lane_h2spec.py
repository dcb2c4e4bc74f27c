"""Every case of h2spec that there is, against the service that runs.

https://github.com/summerwind/h2spec
"""

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.certificates import make_certificates
from tests.support.go_tools import go_tool
from tests.support.service import AuthzService

CASES = 146  # of h2spec 2.6: generic, http2 and hpack, the strict ones too
WAIVED: frozenset[str] = frozenset()  # "package/case: why"


@pytest.mark.parametrize("spoken", ["cleartext", "tls"])
def test_no_case_fails(tmp_path: Path, spoken: str) -> None:
    program, report = go_tool("h2spec"), tmp_path / "report.xml"
    certificates = make_certificates(tmp_path)
    tls = (f"{{cert: {certificates.server}, key: {certificates.server_key}}}", certificates.trust())
    with AuthzService(tmp_path / "authz", "", tls=tls if spoken == "tls" else None) as service:
        at = ["--host", "127.0.0.1", "--port", str(service.grpc), "--timeout", "5"]
        encrypted = ["--tls", "--insecure"] if spoken == "tls" else []
        argv = [program, *at, *encrypted, "--strict", "--junit-report", str(report)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
        cases = [
            (f"{suite.get('package')}/{case.get('classname')}", case.find("failure"), case.find("error"))
            for suite in ElementTree.parse(report).iter("testsuite")
            for case in suite.iter("testcase")
        ]
        assert service.ready()
    failed = {name for name, failure, error in cases if failure is not None or error is not None}
    assert failed == WAIVED, done.stdout
    assert len(cases) == CASES, done.stdout
    assert f"{CASES} tests, {CASES} passed, 0 skipped, 0 failed" in done.stdout
