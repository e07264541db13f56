from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.config.display import describe
from agent.config.fields import iter_secrets
from agent.errors import ConfigError
from agent.pipeline.responders.registry import starts_early
from agent.settings.loader import load, load_with_origins
from agent.settings.model import Config

LAMP = "{name: lamp, description: A lamp., argv: [/bin/true]%s}"
HEAD = "responder:\n  kind: openai\n  openai:\n    tools:\n"


def loaded(tmp_path: Path, tools: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + "".join(f"      {line}\n" for line in tools.split("\n")))
    return load(path, {})


def test_tools_are_read_with_their_schemas(tmp_path: Path) -> None:
    text = (
        "builtin: [timers]\n"
        "commands:\n"
        "  - name: lamp\n"
        "    description: A lamp.\n"
        "    argv: [/bin/true, --on]\n"
        '    question: "Switch the lamp {state}?"\n'
        "    parameters:\n"
        "      type: object\n"
        '      properties: {state: {enum: ["on", "off", 1, 0.5, true, null]}, $x: {type: string}}\n'
        "      required: [state]\n"
        "webhooks: [{name: list, description: A list., url: 'https://example.com/x', api_key: {env: LIST_KEY}}]\n"
        "mcp: [{name: home, url: 'http://192.168.1.5/mcp', api_key: {credential: home}}]"
    )
    config = loaded(tmp_path, text)
    tools = config.responder.settings("openai").tools
    assert tools.commands[0].parameters["properties"]["state"] == {"enum": ["on", "off", 1, 0.5, True, None]}
    assert [secret.env or secret.credential for secret in config.responder.secrets()] == ["openai", "LIST_KEY", "home"]
    assert "responder.openai.tools.mcp[0].api_key" in dict(iter_secrets(config))
    again = tmp_path / "again.yaml"
    result = load_with_origins(tmp_path / "config.yaml", {})
    again.write_text(describe(result.config, result.origins))
    assert load(again, {}) == config


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ("commands: [{name: lamp, description: x, argv: [/no/program]}]", "there is no program /no/program"),
        ("commands: [{name: lamp, description: x}]", "commands[0].argv: the program is missing"),
        ("commands: [{name: lamp, argv: [/bin/true]}]", "the description is missing"),
        (f"commands: [{LAMP % ''}, {LAMP % ''}]", "commands[1].name: lamp is the name of another tool"),
        (
            "builtin: [volume]\ncommands: [{name: set_volume, description: x, argv: [/bin/true]}]",
            "another tool (builtin)",
        ),
        ("commands: [{name: home__lamp, description: x, argv: [/bin/true]}]", "this is no name of a tool"),
        ("commands: [{name: 'a b', description: x, argv: [/bin/true]}]", "this is no name of a tool"),
        (f"commands: [{LAMP % ', parameters: {type: array}'}]", "no schema of an object"),
        (f"commands: [{LAMP % ', parameters: {type: object, if: {}}'}]", "the keyword if"),
        (f"commands: [{LAMP % ', parameters: {type: object, required: [on]}'}]", "true"),
        (f"commands: [{LAMP % ', parameters: 5'}]", "a single value is here, expected a section"),
        (
            "commands: [{name: a, description: x, argv: [/bin/true], question: 'Switch {it}?'}]",
            "there is no argument {it}",
        ),
        ("webhooks: [{name: a, description: x}]", "webhooks[0].url"),
        ("webhooks: [{name: a, description: x, url: 'ftp://a'}]", "webhooks[0].url"),
        ("webhooks: [{name: a, description: x, url: 'http://example.com'}]", "without encryption"),
        ("mcp: [{name: a, url: 'http://example.com'}]", "without encryption"),
        ("mcp: [{name: a, url: nothing}]", "mcp[0].url"),
        ("mcp: [{name: a, url: 'http://127.0.0.1'}, {name: a, url: 'http://127.0.0.1'}]", "mcp[1].name: a is the name"),
        ("mcp: [{name: a_, url: 'http://127.0.0.1'}]", "this is no name of a tool"),
        ("builtin: [reboot]", '"reboot" is not known here'),
    ],
)
def test_errors_are_explained(tools: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, tools)
    assert expected in str(error.value)


def test_prompt_with_a_stray_brace_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("responder: {kind: openai, openai: {system: 'Answer as {\"text\": 1}'}}\n")
    with pytest.raises(ConfigError, match="there is no field"):
        load(path, {})


@pytest.mark.parametrize("choice", ["auto", "always", "never"])
def test_no_reply_with_tools_starts_before_the_end_of_the_question(choice: str, tmp_path: Path) -> None:
    config = loaded(tmp_path, "builtin: [volume]")
    assert not starts_early(config.responder._replace(start_early=choice))
    assert starts_early(Config().responder._replace(kind="openai", start_early=choice)) == (choice != "never")


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "language-model.md").read_text("utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    document = yaml.safe_load(text)
    for command in document["responder"]["openai"]["tools"]["commands"]:
        command["argv"] = ["/bin/true"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    assert load(path, {}).responder.settings("openai").tools.is_on
