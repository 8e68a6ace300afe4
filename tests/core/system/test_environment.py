"""What ``env`` shows of the surroundings."""

from __future__ import annotations

from importlib import metadata

import pytest

from sottovoce.system import environment


def test_surroundings_have_memory_and_load() -> None:
    facts = environment.describe_surroundings()
    assert facts["memory_bytes"] > facts["available_memory_bytes"] > 0
    assert facts["load"] >= 0


def test_instructions_are_those_that_torch_finds() -> None:
    import torch

    capabilities = torch.cpu.get_capabilities()
    named = set(environment.instructions())
    if not named:
        pytest.skip("this system does not tell its processor's instruction sets")
    shared = set(capabilities) & set(environment._TELLING)
    assert {name for name in shared if capabilities[name]} == named & shared


def test_thread_settings_of_the_process_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert environment.describe_surroundings()["thread_settings"]["OMP_WAIT_POLICY"] == "passive"


def test_extra_with_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_av(name: str) -> str:
        if name == "av":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    before = environment.missing_extras("sottovoce")
    monkeypatch.setattr(metadata, "version", without_av)
    assert environment.missing_extras("sottovoce") == {**before, "audio": ["av"]}
