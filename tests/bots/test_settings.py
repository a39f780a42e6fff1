"""A broken config.toml is refused with every fault at once, each with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from bots.settings import ROOT, SettingsError, load


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path)
    return caught.value.problems


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = 'ask_rate = 2\nmisspelt = 1\n[adapters.web]\nport = "x"\n[learner]\ntime = "25:00"\n'
    found = problems(tmp_path, text)
    for path in ("ask_rate", "misspelt", "adapters.web.port", "learner.time"):
        assert any(problem.startswith(path) for problem in found), (path, found)


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "ask_rate = = 1")
    assert "not valid TOML" in problem


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--config"):
        load(tmp_path / "none.toml")


def test_an_unknown_platform_names_the_known(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[[bots]]\nadapters = ["telex"]\n')
    assert "telex" in problem
    assert "console" in problem


def test_beyond_loopback_a_token_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(tmp_path, '[adapters.web]\nhost = "0.0.0.0"\n')
    assert "token_env" in problem
    monkeypatch.setenv("PAGE_TOKEN", "secret")
    path = tmp_path / "config.toml"
    path.write_text('[adapters.web]\nhost = "0.0.0.0"\ntoken_env = "PAGE_TOKEN"\n', "utf-8")
    settings = load(path)
    assert settings.adapters.web.token == "secret"
    assert "secret" not in repr(settings)


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "config.toml"
    path.write_text('data_dir = "here"\n[model]\nname = "model"\n', "utf-8")
    settings = load(path)
    assert settings.data_dir == tmp_path / "here"
    assert settings.model.name == str(tmp_path / "model")


def test_the_starter_is_found_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("", "utf-8")
    assert load(path).model.name == str(ROOT / "data" / "starter")


def test_ids_of_hubs_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[model]\nname = "Qwen/Qwen3-0.6B"\n', "utf-8")
    assert load(path).model.name == "Qwen/Qwen3-0.6B"


def test_every_recipe_setting_is_one_of_the_learners() -> None:
    from bots.lesson import recipe
    from bots.settings import LearnerSettings, RecipeSettings

    names = RecipeSettings.model_fields
    values = dict.fromkeys(names, 1) | {"learning_rates": (1e-3,)}
    changed = recipe(LearnerSettings(recipe=RecipeSettings.model_validate(values)))
    assert {name: getattr(changed, name) for name in names} == values
