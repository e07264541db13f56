# Makes this machine ready for voice-agent; sourced by scripts/run, scripts/test and .ci/run.
#
# Three things are made ready, each only if something is missing: system packages (apt), a virtual environment in
# `.venv`, and the Python packages in it. What was made ready is noted in a stamp inside `.venv`; while the stamp is
# true nothing is looked at twice, so that a second start is immediate. A setup that was interrupted leaves a mark,
# and the next start throws the environment away and makes a new one.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/setup.log
unfinished=$venv/.unfinished

# What the program uses, what is needed to build its libraries, and what its tests use besides.
run_packages="libportaudio2 libasound2-plugins espeak-ng flite libmpg123-0 libopus0 libspeexdsp1 libmp3lame0"
build_packages="gcc libc6-dev portaudio19-dev libsystemd-dev pkg-config"
test_packages="libasound2-dev lame opus-tools pocketsphinx-testdata pulseaudio pulseaudio-utils shellcheck systemd"

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

interrupted() {
    # The step's own output goes into the log, and so would this.
    say "interrupted; the next start begins anew" 2>&8
    exit 130
}

# step WHAT COMMAND... - one line, then the command with its output in the log; on failure the log's end is shown.
step() {
    local what=$1
    shift
    say "$what"
    printf '\n== %s\n' "$what" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 25 -- "$log" >&2
        if tail -n 60 -- "$log" | grep -qE 'emporary failure|Could not resolve|Network is unreachable|Could not connect'; then
            say "it looks as if the network could not be reached, which is needed for this once."
        fi
        fail "this step failed: $what. Its last lines are above, all of them in $log. Start again to go on from here."
    fi
}

# Those of the given packages that are not installed. Debian 13 calls some of them NAMEt64.
missing_packages() {
    local name installed="" missing=""
    while read -r name status _; do
        [[ ${status:-} == ii ]] && installed+=" ${name%t64} "
    done < <(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' "$@" "${@/%/t64}" 2>/dev/null || true)
    for name in "$@"; do
        [[ $installed == *" $name "* ]] || missing+=" $name"
    done
    printf '%s' "${missing# }"
}

# Installs what is missing of the given packages.
need_packages() {
    local missing name names="" line as_root=()
    if ! command -v dpkg-query apt-get >/dev/null; then
        say "this system has no apt: please see to it that what Debian calls $* is installed."
        return 0
    fi
    missing=$(missing_packages "$@")
    [[ -n $missing ]] || return 0
    if [[ $(id -u) != 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            say "system packages are missing, and this user may not install them. Type this, then start again:"
            line="apt-get update && apt-get install -y --no-install-recommends $missing"
            if command -v sudo >/dev/null; then
                line=${line//apt-get/sudo apt-get}
            else
                line="su - -c '$line'" # without the first - there would be no /sbin in its PATH
            fi
            printf '    %s\n' "$line" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    # An installation that was interrupted has to be brought to its end first.
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then
        step "finishing an interrupted installation of system packages" "${as_root[@]}" dpkg --configure -a
    fi
    step "reading the list of system packages" "${as_root[@]}" apt-get -q update
    for name in $missing; do
        if ! apt-cache show "$name" >/dev/null 2>&1 && apt-cache show "${name}t64" >/dev/null 2>&1; then
            name+=t64
        fi
        names+=" $name"
    done
    # shellcheck disable=SC2086 # the names are words
    step "installing system packages:$names" "${as_root[@]}" apt-get -q -y --no-remove --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install $names
}

# The path of a Python that is new enough.
find_python() {
    local name found
    for name in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if found=$("$name" -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null) &&
            [[ -n $found ]]; then
            printf '%s' "$found"
            return 0
        fi
    done
    fail "Python 3.11 or later is needed and was not found; on Debian 12 and later: sudo apt-get install python3"
}

# stamp PURPOSE - one word for all that a setup depends on; fails where the environment does not run.
stamp() {
    local version
    version=$("$venv/bin/python" -c 'import sys; print(sys.version)' 2>/dev/null) || return 1
    [[ -x $venv/bin/voice-agent ]] || return 1
    {
        printf '%s\n' "$1" "$root" "$version" "$run_packages $build_packages $test_packages"
        cat -- "$root/setup.cfg" "$root/pyproject.toml"
    } | sha256sum | cut -c1-64
}

is_ready() {
    local now
    [[ ! -e $unfinished ]] && now=$(stamp "$1") && [[ $(cat -- "$venv/.ready-$1" 2>/dev/null) == "$now" ]]
}

make_environment() {
    local python=$1
    if [[ ! -e $unfinished ]] && "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        return 0 # a sound one, only its packages are not up to date
    fi
    # All but the log goes: nothing of an environment that was left half made is trusted.
    find "$venv" -mindepth 1 -maxdepth 1 ! -name setup.log ! -name .unfinished -exec rm -rf -- {} +
    touch -- "$unfinished"
    step "making a virtual environment in .venv with $("$python" -V)" "$python" -m venv "$venv"
}

pip_install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"; }

# set_up run|test - makes everything ready for that purpose, or ends the program with a sentence.
set_up() {
    local purpose=$1 extras=systemd packages=$run_packages python
    if [[ $purpose == test ]]; then
        packages+=" $test_packages"
        extras+=,test
    fi
    mkdir -p -- "$venv"
    exec 8>&2
    # From here on, because dpkg does not end in the midst of its work: what is asked for then is done behind it.
    trap interrupted INT TERM
    # shellcheck disable=SC2086 # the names are words
    if is_ready "$purpose"; then
        need_packages $packages
        exec 8>&-
        trap - INT TERM
        return 0
    fi
    # All at once, because who may not install them has to be told one line, not two.
    python=$(find_python)
    packages+=" $build_packages"
    [[ $("$python" -c 'import sys; print(sys.base_prefix)') != /usr ]] || packages+=" python3-venv python3-dev"
    # shellcheck disable=SC2086
    need_packages $packages
    # One setup at a time: the lock lies on the repository's folder and is inherited by what works in it.
    exec 9<"$root"
    if ! flock -n 9; then
        say "another setup is at work in this folder; waiting for it"
        flock 9
        if is_ready "$purpose"; then
            exec 9<&- 8>&-
            trap - INT TERM
            return 0
        fi
    fi
    make_environment "$python"
    touch -- "$unfinished"
    case $(dpkg --print-architecture 2>/dev/null || uname -m) in
        amd64 | x86_64 | arm64 | aarch64) extras+=,vad,recognition ;;
        *) say "the local recogniser has no package for this processor: recognition needs vosk with a model, or a service." ;;
    esac
    step "installing voice-agent and its libraries into .venv (some 100 MB, the local recogniser among them)" \
        pip_install --editable "${root}[$extras]"
    step "looking whether all of it can be used" \
        "$venv/bin/python" -c 'import msgpack, pyaudio, requests, websocket, websockets.sync.server, yaml'
    rm -f -- "$unfinished"
    # What is enough for the tests is enough to run.
    stamp run >"$venv/.ready-run"
    [[ $purpose != test ]] || stamp test >"$venv/.ready-test"
    exec 9<&- 8>&-
    trap - INT TERM
    say "ready"
}
