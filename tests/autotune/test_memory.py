"""A run that cannot fit into the memory is refused before it trains, with the numbers."""

from __future__ import annotations

import pytest

from normbench import models
from normbench.autotune import memory
from normbench.data.shapes import shape_of
from normbench.errors import InputError


@pytest.mark.parametrize(("share", "fits"), [(0.49, False), (0.51, True), (2.0, True)])
def test_half_of_the_estimate_must_be_free(make_spec, monkeypatch, share, fits) -> None:
    spec = make_spec("batch=1024")
    image = models.fitted(spec, shape_of(spec.data))
    free = int(share * models.footprint(spec, image))
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    if fits:
        memory.check_room(spec, image)
    else:
        with pytest.raises(InputError, match=r"batch × workers = 1024 needs about .* are free"):
            memory.check_room(spec, image)


def test_weights_must_fit_as_a_whole(make_spec, monkeypatch) -> None:
    spec = make_spec("model=mlp", "model.hidden=[2000,2000]", "batch=2")
    image = models.fitted(spec, shape_of(spec.data))
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(0.9 * models.footprint(spec, image)))
    with pytest.raises(InputError, match="for its weights"):
        memory.check_room(spec, image)


def test_a_layer_of_terabytes_ends_the_command_with_one_line(capsys, tmp_path) -> None:
    from normbench import cli

    assert cli.run(["train", "model=mlp", "model.hidden=[1000000,1000000]", "tracking=none"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: layer fc2 has 1,000,000,000,000 weights, which need 4,000.0 GB of memory; "
    )
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()
