"""The commands `import` and `export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.cli.main import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["import", "mlflow", "sqlite:///absent.db"], 3, "there is no file"),
        (["import", "mlflow", "mysql://x/y"], 2, "leads to no MLflow store"),
        (["import", "mlflow", "http://127.0.0.1:9"], 4, "does not answer"),
        (["export", "mlflow", "http://127.0.0.1:9"], 4, "does not answer"),
        (["export", "mlflow", "sqlite:///mlflow.db"], 2, "start `mlflow server`"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["runs", "start", "-w", str(tmp_path)])
    assert main([*arguments, "-w", str(tmp_path)]) == code
    assert said in capsys.readouterr().err


def test_a_workspace_behind_a_server_is_not_imported_into(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "mlflow", "x.db", "-w", "http://127.0.0.1:9"]) == 2
    assert "run this where the workspace is" in capsys.readouterr().err
