"""What the server answers is what its OpenAPI document says: schemathesis asks whatever the document allows, and more.

`make test-openapi` brings schemathesis in an environment of its own, since its plugin would change every run of pytest.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving.clients import own_engine
from tests.serving.processes import server

ROOT = Path(__file__).parents[2]
# Not that a POST to a path of GET alone is 405: the door asks for JSON before it looks for a route.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,positive_data_acceptance,allow_header_conformance"
)
EXAMPLES = 25  # of each route and phase


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing(tmp_path):
    command = shutil.which("st", path=f"{ROOT / '.venv-openapi' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if command is None:
        pytest.skip("schemathesis is not installed; run make test-openapi")
    own_engine().save(tmp_path / "shop.genrail")
    with server(tmp_path / "shop.genrail", "--events", str(tmp_path / "events.db")) as (running, _):
        found = subprocess.run(
            [
                *(command, "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run"),
                *(f"{running.url}/openapi.json", "--phases", "examples,coverage,fuzzing", "--checks", CHECKS),
                *("--max-examples", str(EXAMPLES), "--seed", "0", "--continue-on-failure", "--warnings", "off"),
                *("--request-timeout", "120", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        told = re.search(r"Test cases:\s+(.*)", found.stdout)
        print("schemathesis:", told[1] if told else found.stderr)
    assert found.returncode == 0, found.stdout
