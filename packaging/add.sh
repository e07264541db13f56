# Installs or updates an optional part beside the package; sourced by the add-... scripts, which run as root.
# shellcheck shell=sh
set -eu
here=/usr/lib/voice-agent
processors=${processors:-64-bit} # any: all wheels of the part are pure Python

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# add PART WHAT PACKAGE... - install the wheels of PART.txt into the directory PART, after the Debian packages.
add() {
    part=$1 what=$2
    shift 2
    [ "$(id -u)" = 0 ] || fail "no permission to write into $here. Type: sudo $0"
    case $processors-$(dpkg --print-architecture) in
        any-* | *-amd64 | *-arm64) ;;
        *) fail "no $what for this processor, only for amd64 and arm64. $hint" ;;
    esac
    /usr/bin/python3 -m pip --version >/dev/null 2>&1 || set -- python3-pip "$@"
    if [ $# -gt 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null ||
            fail "$* cannot be installed: see the output of apt above. Try sudo apt-get update."
    fi

    # The new version is downloaded beside the old one, so that a failed download keeps the old one. --target installs it
    # outside the system's Python, which refuses pip (PEP 668).
    new=$here/$part.new
    rm -rf "$new"
    trap 'rm -rf "$new"' EXIT
    /usr/bin/python3 -m pip install --quiet --no-input --disable-pip-version-check --root-user-action=ignore \
        --no-deps --only-binary :all: --require-hashes --target "$new" -r "$here/$part.txt" ||
        fail "the $what cannot be downloaded: see the output of pip above"
    rm -rf "${here:?}/$part"
    mv "$new" "$here/$part"
    chmod -R go=u-w "$here/$part"

    # The server of a LAN, which uses the engines, may run beside the service or without it.
    case $part in
        recognition | natural-voice | vosk) units="voice-agent voice-agent-server" ;;
        *) units=voice-agent ;;
    esac
    failed=
    for unit in $units; do
        if [ -d /run/systemd/system ] && systemctl --quiet is-active "$unit.service"; then
            systemctl restart "$unit.service" || failed="$failed -u $unit"
        fi
    done
    [ -z "$failed" ] || fail "a service did not restart: see journalctl$failed"
}
