"""Completion scripts for bash, zsh and fish, written out from the table of commands.

The scripts are self-contained: TAB starts no Python, except for names that only an index knows (`completion_values`).
Each shell completes file names itself, since it knows how to quote them, and nothing is passed to `eval`. (Typer's own
completion starts the program on every TAB, 0.15 s, cannot complete folders only, and its zsh script evaluates help
texts: one that holds `\\$(command)` runs it.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from . import settings
from .command_table import COMMANDS, Command, within
from .command_table import PROGRAM as ROOT
from .options import HELP, Argument, Option

PROGRAM = "imgsearch"
Kind = Literal["files", "folders", "choices", "names", "anything"]


class Value(NamedTuple):
    """What stands after an option, or as an argument."""

    metavar: str
    kind: Kind
    choices: tuple[str, ...] = ()
    """Of `names` and `folders`, the topic of core/store/completion_values, if any."""
    notes: tuple[str, ...] = ()
    """One for each choice, or none."""
    is_many: bool = False


class Flag(NamedTuple):
    """An option: `names` mean the same, `rivals` cannot follow it."""

    names: tuple[str, ...]
    help: str
    value: Value | None
    rivals: tuple[str, ...]


class Verb(NamedTuple):
    """A command, named by the words that call it: `index`, `roots move`; the program itself has an empty name."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    arguments: tuple[Value, ...] = ()
    """All of one kind, so that the same is offered for each."""
    commands: tuple[Verb, ...] = ()
    """For a group, which has no arguments."""

    @property
    def last_word(self) -> str:
        return self.name.rpartition(" ")[2]

    @property
    def kind(self) -> str:
        """What is offered as its next word."""
        return "choices" if self.commands else self.arguments[0].kind if self.arguments else "anything"

    @property
    def choices(self) -> str:
        words = [command.last_word for command in self.commands]
        return " ".join(words or (self.arguments[0].choices if self.arguments else ()))


def script(shell: str, commands: Mapping[str, Command] = COMMANDS) -> str:
    """The completion script for a shell, to be sourced or put where the shell looks for such files."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_verb(ROOT, commands))


# ------------------------------------------------------------------------------------------- from the table


def _verb(command: Command, commands: Mapping[str, Command]) -> Verb:
    arguments = tuple(_value(each, commands) for each in command.arguments)
    if len({argument.kind for argument in arguments} - {"anything"}) > 1:
        raise NotImplementedError(f"{command.name}: completion supports arguments of one kind only")
    flags = [flag for each in (*command.options, *HELP) for flag in _flags(each, commands)]
    inner = within(command.name, dict(commands)) if command.is_group else []
    return Verb(
        command.name,
        _first_sentence(command.summary),
        tuple(flags),
        arguments,
        tuple(_verb(each, commands) for each in inner),
    )


def _all(verb: Verb) -> list[Verb]:
    """A command, the commands in it, and so on."""
    return [verb, *(inner for command in verb.commands for inner in _all(command))]


def _flags(option: Option, commands: Mapping[str, Command]) -> Iterator[Flag]:
    """One, or two for `--this/--that`."""
    value = None if option.is_flag else _value(option, commands)
    off = tuple(option.off.split())
    rivals = () if option.is_list else tuple(sorted((*option.names, *off), key=len))
    for names in (option.names, off):
        if names:
            yield Flag(tuple(sorted(names, key=len)), _first_sentence(option.help), value, rivals)


def _value(parameter: Argument | Option, commands: Mapping[str, Command]) -> Value:
    metavar = (
        "DEVICE" if parameter.parameter == "device" else parameter.metavar or parameter.parameter.replace("_", " ")
    )
    metavar = metavar.partition("[")[0]  # zsh has its own meaning for a colon
    is_many = parameter.is_list and isinstance(parameter, Argument)
    if parameter.choices:
        return Value(metavar, "choices", tuple(map(_plain, parameter.choices)), is_many=is_many)
    match parameter.offers:
        case "files" | "folders":
            return Value(metavar, parameter.offers, is_many=is_many)
        case "indexes":
            return Value(metavar, "folders", ("indexes",), is_many=is_many)
        case "cameras" | "lenses" | "keywords" | "places" | "roots":
            return Value(metavar, "names", (parameter.offers,), is_many=is_many)
        case "keys":
            known = {name for key in settings.keys(commands) for name in (key.name, key.full)}
            return Value(metavar, "choices", tuple(map(_plain, sorted(known))))
        case "models":
            from imgsearch.core.models.registry import ALIASES

            notes = ("the model of the index, else the best available", *map(_about_model, ALIASES.values()))
            return Value(metavar, "choices", tuple(map(_plain, ("auto", *ALIASES))), notes)
        case "":
            return Value(metavar, "anything", is_many=is_many)
    raise NotImplementedError(f"{parameter.parameter}: completion does not know {parameter.offers!r}")


def _about_model(alias: Any) -> str:
    size = f"{alias.download_mb:,} MB" if alias.download_mb else "no download"
    return f"{size}, {alias.licence}, {alias.languages}"


def _plain(choice: str) -> str:
    """A word that means itself in every shell, quoted or not."""
    if not re.fullmatch(r"\w[\w.-]*", choice, re.ASCII):
        raise NotImplementedError(f"completion cannot offer {choice!r}")
    return choice


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", paragraph, maxsplit=1)[0]


def _head(shell: str) -> str:
    return f"# {PROGRAM} completion for {shell}, generated from the program by: {PROGRAM} --show-completion {shell}\n"


def _quoted(text: str) -> str:
    """For bash and zsh: no character inside means anything."""
    return "'" + text.replace("'", "'\\''") + "'"


# ---------------------------------------------------------------------------------------------------- bash

_BASH = r"""
_@program@() {
    local word=$2 before=${COMP_WORDS[COMP_CWORD-1]} verb= index= only_names= expects= options= choices= choice
    local IFS=$' \t\n'
    local -i i
    COMPREPLY=()

    # --option=value comes as three words.
    [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --index)
                index=${COMP_WORDS[i+1]}
                [[ $index == = ]] && index=${COMP_WORDS[i+2]} ;;
            --) only_names=yes before=; break ;;
            -*) ;;
            *)
                case $verb in
@groups@
                esac ;;
        esac
    done

    case $verb:$before in
@values@
        *)
            case $verb in
@verbs@
            esac
            if [[ $word == -* && ! $only_names ]]; then
                expects=choices choices=$options
            fi ;;
    esac

    # Names of files are completed, and quoted, by readline itself: `-o default`. bash 3.2 has no compopt.
    case $expects in
        files) return ;;
        folders) compopt +o default -o filenames -o plusdirs 2>/dev/null ;;
        *) compopt +o default 2>/dev/null ;;
    esac
    if [[ $expects == names || $expects == folders && $choices ]]; then
        # readline would leave a $ in a name to the shell: quoted here, or skipped if it could end an open quote.
        while IFS= read -r choice; do
            case $expects:${COMP_WORDS[COMP_CWORD]} in
                folders:*) COMPREPLY+=("$choice") ;; # readline quotes those, with the folders that it finds
                *:\'*) [[ $choice == *\'* ]] || COMPREPLY+=("$choice") ;;
                *:\"*) [[ $choice == *[\"\$\`\\!]* ]] || COMPREPLY+=("$choice") ;;
                *) printf -v choice %q "$choice"; COMPREPLY+=("$choice") ;;
            esac
        done < <(@program@ --complete "$choices" "${word//[\\\'\"]/}" "${index//[\\\'\"]/}" 2>/dev/null </dev/null)
        return
    fi
    [[ $expects == choices ]] || return
    for choice in $choices; do
        [[ $choice == "$word"* ]] && COMPREPLY+=("$choice")
    done
}

complete -o default -F _@program@ @program@
"""


def _bash(program: Verb) -> str:
    def sets(value: Value | None) -> str:
        words = f" choices={_quoted(' '.join(value.choices))}" if value and value.choices else ""
        return f"expects={value.kind if value else 'anything'}{words}"

    values = [
        f"        {'|'.join(_pattern(f'{verb.name}:{name}') for name in flag.names)}) {sets(flag.value)} ;;"
        for verb in _all(program)
        for flag in verb.flags
        if flag.value
    ]
    options = [
        f"                {_pattern(verb.name)})\n"
        f"                    expects={verb.kind}{f' choices={_quoted(verb.choices)}' if verb.choices else ''}\n"
        f"                    options={_quoted(' '.join(name for flag in verb.flags for name in flag.names))} ;;"
        for verb in _all(program)
    ]
    groups = [
        f"                    {_pattern(verb.name)}) verb={verb.name and _quoted(f'{verb.name} ')}${{COMP_WORDS[i]}} ;;"
        for verb in _all(program)
        if verb.commands
    ]
    return _head("bash") + _filled(
        _BASH,
        values="\n".join(values),
        verbs="\n".join(options),
        groups="\n".join(groups),
    )


def _pattern(text: str) -> str:
    """One word of a `case`."""
    return text if re.fullmatch(r"[\w:-]+", text) else _quoted(text)


def _filled(template: str, **parts: str) -> str:
    """Placeholders are @name@. What is put in is not looked at again."""
    parts["program"] = PROGRAM
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], template)


# ----------------------------------------------------------------------------------------------------- zsh

_ZSH = r"""@groups@@choices@
_@program@_names() {
  local -a found
  found=("${(@f)$(@program@ --complete $1 "${(Q)PREFIX}" "${(Q)opt_args[--index]}" 2>/dev/null </dev/null)}")
  compadd -M 'm:{[:lower:][:upper:]}={[:upper:][:lower:]}' -a found
}
# Found through $fpath, this file is the body of the function; else it was sourced.
if [[ ${funcstack[1]} == _@program@ ]]; then
  _@program@ "$@"
else
  compdef _@program@ @program@
fi
"""

_ZSH_GROUP = r"""
@function@() {
  local curcontext=$curcontext ret=1
  local -a state line commands
  local -A opt_args

  _arguments -C -s -S -A '-*' \
@flags@
    '1:command:->command' \
    '*::argument:->argument' && ret=0

  case $state in
  command)
    commands=(
@commands@
    )
    _describe -t commands command commands && ret=0
    ;;
  argument)
    curcontext="${curcontext%:*:*}:@context@-$line[1]:"
    case $line[1] in
@verbs@
    esac
    ;;
  esac
  return ret
}
"""

_ZSH_CHOICES = r"""
_@program@_@name@() {
  local -a choices=(
@choices@
  )
  _describe -t @name@ @name@ choices
}
"""


def _zsh(program: Verb) -> str:
    verbs = _all(program)
    noted = {flag.value.metavar: flag.value for verb in verbs for flag in verb.flags if flag.value and flag.value.notes}
    return f"#compdef {PROGRAM}\n{_head('zsh')}" + _filled(
        _ZSH,
        groups="".join(_zsh_group(verb) for verb in verbs if verb.commands),
        choices="".join(map(_zsh_choices, noted.values())),
    )


def _zsh_group(group: Verb) -> str:
    described = [f"      {_quoted(_zsh_item(verb.last_word, verb.help))}" for verb in group.commands]
    return _filled(
        _ZSH_GROUP,
        function=_zsh_function(group),
        context="-".join([PROGRAM, *group.name.split()]),
        flags=_zsh_specs(group, "    ") + " \\",
        commands="\n".join(described),
        verbs="\n".join(map(_zsh_body, group.commands)),
    )


def _zsh_function(group: Verb) -> str:
    return "_".join(["", PROGRAM, *group.name.split()])


def _zsh_body(verb: Verb) -> str:
    if verb.commands:
        return f"    {verb.last_word}) {_zsh_function(verb)} && ret=0 ;;"
    return f"    {verb.last_word})\n      _arguments -s -S \\\n{_zsh_specs(verb, '        ')} && ret=0\n      ;;"


def _zsh_choices(value: Value) -> str:
    items = [f"    {_quoted(_zsh_item(*pair))}" for pair in zip(value.choices, value.notes, strict=True)]
    return _filled(_ZSH_CHOICES, name=value.metavar.lower(), choices="\n".join(items))


def _zsh_item(name: str, note: str) -> str:
    return name.replace(":", r"\:") + ":" + note


def _zsh_specs(verb: Verb, indent: str) -> str:
    specs = [_zsh_flag(flag) for flag in verb.flags]
    specs += [_quoted(f"{'*' if argument.is_many else ':'}{_zsh_value(argument)}") for argument in verb.arguments]
    return " \\\n".join(indent + spec for spec in specs)


def _zsh_flag(flag: Flag) -> str:
    """`'(-n --limit)'{-n+,--limit=}'[help]:N: '`: `+` and `=` let the value also stand in the same word."""
    if flag.names[-1] in ("-h", "--help", "--version", "--show-completion"):
        before = "(- *)"
    else:
        before = f"({' '.join(flag.rivals)})" if len(flag.rivals) > 1 else "" if flag.rivals else "*"
    joints = ["" if not flag.value else "=" if name.startswith("--") else "+" for name in flag.names]
    names = ",".join(name + joint for name, joint in zip(flag.names, joints, strict=True))
    note = re.sub(r"([][:\\])", r"\\\1", flag.help)
    after = f"[{note}]" + (_zsh_value(flag.value) if flag.value else "")
    if len(flag.names) > 1:
        return f"{_quoted(before)}{{{names}}}{_quoted(after)}"
    return _quoted(before + names + after)


def _zsh_value(value: Value) -> str:
    words = f"_{PROGRAM}_{value.metavar.lower()}" if value.notes else f"({' '.join(value.choices)})"
    names = f"_{PROGRAM}_names {''.join(value.choices)}"
    folders = f"{{ {names}; _path_files -/ }}" if value.choices else "_path_files -/"
    action = {
        "files": "_files",
        "folders": folders,
        "choices": words,
        "names": f"{{ {names} }}",
        "anything": " ",
    }[value.kind]
    return f":{value.metavar}:{action}"


# ---------------------------------------------------------------------------------------------------- fish

_FISH = r"""
# The command that was typed, of one or more words; options before it are skipped.
function __@program@_verb
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    for word in $words
        if not string match -q -- '-*' $word
            set -a verb $word
            contains -- "$verb" @groups@; or break
        end
    end
    echo "$verb"
end

function __@program@_has
    set -l verb (__@program@_verb)
    test "$verb" = "$argv[1]"
end

# What stands before the = of --option=DIR is no part of the folder's name.
function __@program@_folders
    __fish_complete_directories (commandline -ct | string replace -r -- '^--[a-z-]+=' '')
end

function __@program@_names
    set -l words (commandline -opc)
    set -l index ''
    for i in (seq (count $words))
        if test "$words[$i]" = --index; and set -q words[(math $i + 1)]
            set index $words[(math $i + 1)]
        else if string match -q -- '--index=*' $words[$i]
            set index (string replace -- --index= '' $words[$i])
        end
    end
    set -l typed (commandline -ct | string replace -r -- '^--[a-z-]+=' '' | string unescape)
    @program@ --complete $argv[1] "$typed" $index 2>/dev/null </dev/null
end

complete -c @program@ -f
@lines@
"""


def _fish(program: Verb) -> str:
    lines = []
    for verb in _all(program):
        lines += [""] + [_fish_flag(verb, flag) for flag in verb.flags]
        lines += [
            f"complete -c {PROGRAM} -n {_when(verb.name)} -a {command.last_word} -d {_fish_quoted(command.help)}"
            for command in verb.commands
        ]
        if verb.arguments and verb.kind != "anything":
            lines.append(f"complete -c {PROGRAM} -n {_when(verb.name)} {_fish_value(verb.arguments[0])}")
    groups = [_fish_quoted(verb.name) for verb in _all(program) if verb.name and verb.commands]
    return _head("fish") + _filled(_FISH, groups=" ".join(groups), lines="\n".join(lines))


def _when(verb: str) -> str:
    return _fish_quoted(f'__{PROGRAM}_has "{verb}"')


def _fish_flag(verb: Verb, flag: Flag) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names]
    value = ["-r", _fish_value(flag.value)] if flag.value else []
    words = [f"complete -c {PROGRAM} -n", _when(verb.name), *names, *value, "-d", _fish_quoted(flag.help)]
    return " ".join(word for word in words if word)


def _fish_value(value: Value) -> str:
    match value.kind:
        case "files":
            return "-F"
        case "folders":
            known = f" (__{PROGRAM}_names {value.choices[0]})" if value.choices else ""
            return f"-f -a '(__{PROGRAM}_folders){known}'"
        case "names":
            return f"-f -a '(__{PROGRAM}_names {value.choices[0]})'"
        case "anything":
            return "-f"
    # fish expands the list once more: each note is quoted inside it.
    notes = value.notes or ("",) * len(value.choices)
    items = [choice + ("\t" + note if note else "") for choice, note in zip(value.choices, notes, strict=True)]
    return "-f -a " + _fish_quoted(" ".join(_fish_quoted(item) if "\t" in item else item for item in items))


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
