"""The notebook: short, without stored outputs, and it runs from top to bottom as it is."""

import json
import pathlib
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "experiments" / "colab.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_short_and_without_logic_or_outputs():
    assert len(CELLS) <= 10
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            words = "".join(cell["source"]).split()
            assert not {"def", "class", "while", "if", "lambda"} & set(words)


@pytest.mark.slow
def test_runs_as_it_is(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    for folder in ("ariigcn_jax", "experiments", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "no ICCL  weighted F1 on test" in text
    assert text.count("emotion_") > 3
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
