
# Everything below runs with the tools of a minimal system: POSIX sh, coreutils or busybox, and rpm or dpkg.
changed=0
work=

say() { printf '%s\n' "$1"; }
fail() {
    printf 'error: %s\n' "$2" >&2
    [ -z "${3:-}" ] || printf 'hint: %s\n' "$3" >&2
    exit "$1"
}
has() { command -v "$1" >/dev/null 2>&1; }
# Runs at every end, a failed one too.
clean() { [ -z "$work" ] || rm -rf "$work"; }

# The system this script was made for, by os-release or the older files.
check_system() {
    [ "$(id -u)" = 0 ] || fail 7 "only root can install" "run it with sudo"
    if [ -s /etc/os-release ]; then
        # shellcheck disable=SC1091 # the machine's own
        id=$(. /etc/os-release && printf '%s' "${ID:-}")
        # shellcheck disable=SC1091 # the machine's own
        version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")
        case " $os_ids " in *" $id "*) ;; *) fail 3 "this is \`$id\`, the script is for $os_name" "render one for this system" ;; esac
    else
        seen=
        for file in /etc/system-release /etc/centos-release /etc/redhat-release /etc/SuSE-release /etc/debian_version; do
            [ ! -s "$file" ] || seen=$(head -n 1 "$file")
            [ -z "$seen" ] || break
        done
        case $seen in "$os_words"*) ;; *) fail 3 "this is \`${seen:-unknown}\`, the script is for $os_name" "render one for this system" ;; esac
        version=$(printf '%s\n' "$seen" | sed 's/^[^0-9]*//; s/[^0-9.].*//')
    fi
    known=0
    for pattern in $os_versions; do
        # shellcheck disable=SC2254 # it is a pattern
        case $version in $pattern) known=1 ;; esac
    done
    [ "$known" = 1 ] || fail 3 "this is version ${version:-unknown}, the script is for $os_name" "render one for this system"
    case $format in
        rpm) found=$(rpm --eval '%{_arch}' 2>/dev/null) ;;
        *) found=$(dpkg --print-architecture 2>/dev/null) ;;
    esac
    case " $archs " in *" ${found:-none} "*) ;; *) fail 3 "this machine is \`${found:-unknown}\`, the script is for $archs" "render one for this architecture" ;; esac
}

sha256() {
    if has sha256sum; then
        sum=$(sha256sum <"$1")
    elif has openssl; then
        sum=$(openssl dgst -sha256 <"$1" | sed 's/^.*= *//')
    elif has busybox; then
        sum=$(busybox sha256sum <"$1")
    else
        fail 5 "nothing here computes SHA-256" "install coreutils or openssl"
    fi
    printf '%s\n' "${sum%% *}"
}

download() {
    if has curl; then
        curl -fsSL --retry 3 --connect-timeout 30 -o "$2" "$1"
    elif has wget; then
        wget -q -O "$2" "$1"
    elif has busybox; then
        busybox wget -q -O "$2" "$1"
    else
        fail 6 "neither curl nor wget is here" "copy the package to this machine and name it: sh SCRIPT PACKAGE"
    fi
}

installed_version() {
    case $format in
        rpm) rpm -q --qf '%{VERSION}\n' amazon-ssm-agent 2>/dev/null | grep -v ' ' | head -n 1 ;;
        *) dpkg-query -W -f '${db:Status-Status} ${Version}\n' amazon-ssm-agent 2>/dev/null | sed -n 's/^installed \([^-]*\).*/\1/p' ;;
    esac
}

# Whether $1 is newer than $2: four numbers each.
is_newer() {
    [ "$1" != "$2" ] || return 1
    first=$1. second=$2.
    while [ -n "$first" ]; do
        left=${first%%.*} right=${second%%.*}
        [ "${left:-0}" = "${right:-0}" ] || { [ "${left:-0}" -gt "${right:-0}" ] 2>/dev/null; return; }
        first=${first#*.} second=${second#*.}
    done
    return 1
}

install_package() {
    have=$(installed_version)
    if [ "$have" = "$agent_version" ] && [ -x /usr/bin/amazon-ssm-agent ]; then
        return 0
    fi
    [ ! -e /snap/amazon-ssm-agent ] || fail 8 "the agent is installed as a snap" "remove the snap first"
    if [ -n "$have" ] && is_newer "$have" "$agent_version"; then
        [ "$downgrade" = allow ] || fail 8 "amazon-ssm-agent $have is installed, which is newer than $agent_version" "render the script with --allow-downgrade"
    fi
    package=$work/amazon-ssm-agent.$format
    if [ -n "$given" ]; then
        cp "$given" "$package" || fail 7 "cannot read $given" "name the package file"
    else
        download "$url" "$package" || fail 6 "cannot download $url" "check network and proxy, or name a file: sh SCRIPT PACKAGE"
    fi
    found=$(sha256 "$package") || exit $?
    [ "$found" = "$digest" ] || fail 5 "the package's SHA-256 is $found, $digest is expected" "do not use this file"
    case $format in
        rpm) rpm -U --noscripts --replacepkgs --oldpackage "$package" || fail 7 "rpm failed" "see its message above" ;;
        *)
            # The package's scripts would start the agent at once: they find only these.
            mkdir "$work/bin"
            for name in systemctl initctl start stop restart status service; do
                printf '#!/bin/sh\nexit 0\n' >"$work/bin/$name"
                chmod 755 "$work/bin/$name"
            done
            PATH=$work/bin:$PATH dpkg -i --force-confold "$package" || fail 7 "dpkg failed" "see its message above"
            ;;
    esac
    changed=1
    say "installed amazon-ssm-agent $agent_version"
}

# put FILE MODE, the text on standard input.
put() {
    cat >"$work/put" || fail 7 "cannot write to /tmp" "make room there"
    if [ -f "$1" ] && [ "$(cat "$1")" = "$(cat "$work/put")" ]; then
        return 0
    fi
    [ -d "${1%/*}" ] || mkdir -p "${1%/*}" || fail 7 "cannot make ${1%/*}" "remount read-write"
    # The old file or the new one stands there at every instant.
    if ! { cp "$work/put" "$1.ssmbake-new" && chmod "$2" "$1.ssmbake-new" && mv -f "$1.ssmbake-new" "$1"; }; then
        rm -f "$1.ssmbake-new"
        fail 7 "cannot write $1" "make room or remount read-write"
    fi
    changed=1
    say "wrote $1"
}

link() {
    [ "$(readlink "$2" 2>/dev/null)" != "$1" ] || return 0
    [ -d "${2%/*}" ] || mkdir -p "${2%/*}"
    ln -sf "$1" "$2" || fail 7 "cannot make $2" ""
    changed=1
    say "linked $2"
}

# Masks are respected, and found before anything is written.
refuse_masks() {
    if [ "$service" = systemd ]; then
        case $(readlink "/etc/systemd/system/$unit" 2>/dev/null) in
            */dev/null) fail 8 "the service is masked" "remove /etc/systemd/system/$unit" ;;
        esac
    elif grep -q '^ *manual *$' /etc/init/amazon-ssm-agent.override 2>/dev/null; then
        fail 8 "the service is masked by /etc/init/amazon-ssm-agent.override" "remove the line \`manual\` from it"
    fi
}

enable_systemd() {
    for dir in /etc/systemd/system $unit_dir /lib/systemd/system /usr/lib/systemd/system; do
        if [ -f "$dir/$unit" ]; then
            link "$dir/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
            return 0
        fi
    done
    fail 8 "there is no $unit" "install the package again"
}

enable_upstart() {
    [ -f /etc/init/amazon-ssm-agent.conf ] || fail 8 "/etc/init/amazon-ssm-agent.conf is missing" "install the package again"
}

# Whether bundle $1 holds the certificate whose first line of base64 is $2 and last is $3.
holds() { [ -f "$1" ] && grep -qxF -e "$2" "$1" && grep -qxF -e "$3" "$1"; }

append() {
    cat "$2" >>"$1" || fail 7 "cannot write $1" "make room or remount read-write"
    changed=1
    say "added to $1"
}

# anchor NAME HASH FIRST LAST, the certificate on standard input: put where the system's own tool finds it.
anchor() {
    cat >"$work/$1.pem"
    for bundle in $bundles; do
        [ ! -f "$bundle" ] || break
    done
    ! holds "$bundle" "$3" "$4" || return 0
    case $trust in
        debian) put "/usr/local/share/ca-certificates/$1.crt" 644 <"$work/$1.pem" ;;
        suse) put "/etc/pki/trust/anchors/$1.pem" 644 <"$work/$1.pem" ;;
        *) [ ! -d /etc/pki/ca-trust/source/anchors ] || put "/etc/pki/ca-trust/source/anchors/$1.pem" 644 <"$work/$1.pem" ;;
    esac
    if [ "$trust" = el6 ] && [ ! -L "$bundle" ]; then
        # Without update-ca-trust, or before it was enabled, the bundle is a plain file; the PEM outlives its updates.
        put "/etc/pki/tls/certs/$1.pem" 644 <"$work/$1.pem"
        [ -e "/etc/pki/tls/certs/$2.0" ] || link "$1.pem" "/etc/pki/tls/certs/$2.0"
        append "$bundle" "$work/$1.pem"
    else
        refresh=1
    fi
}

# After all anchors: the system's own tool, and a look at what it did.
refresh_trust() {
    [ "${refresh:-0}" = 1 ] || return 0
    case $trust in
        debian | suse) tool=update-ca-certificates ;;
        *) tool=update-ca-trust ;;
    esac
    if has "$tool"; then
        "$tool" >/dev/null || fail 7 "$tool failed" "see its message above"
    fi
    for pem in "$work"/*.pem; do
        first=$(sed -n 2p "$pem")
        last=$(tail -n 2 "$pem" | head -n 1)
        # Without the tool, or when it did not: what reads the bundle must find the roots all the same.
        holds "$bundle" "$first" "$last" || append "$bundle" "$pem"
    done
}

# prepare_config: the wanted file on standard input; another that is there is found before anything is written.
prepare_config() {
    cat >"$work/config" || fail 7 "cannot write to /tmp" "make room there"
    if [ -s "$config" ] && [ "$(cat "$config")" != "$(cat "$work/config")" ]; then
        fail 8 "$config is there already and sh cannot merge JSON" "merge by hand what \`ssmbake plan\` names, or remove the file"
    fi
}
configure() { put "$config" 600 <"$work/config"; }

given=${1:-}
unit=amazon-ssm-agent.service
config=/etc/amazon/ssm/amazon-ssm-agent.json
trap clean EXIT
trap 'exit 130' HUP INT TERM
umask 022
check_system
work=$(mktemp -d /tmp/ssmbake.XXXXXX) || fail 7 "cannot make a temporary directory" "make room in /tmp"
refuse_masks
