#!/bin/sh
# Fetches the ssmbake of this machine's architecture, checks it and runs it. Nothing is left behind.
#
#   sh bootstrap.sh [OPTIONS] -- apply --region eu-west-1
#
#   --url URL      the directory of a release, or of a mirror of it; http is enough, the check decides; so is a path
#   --file FILE    the binary itself, for machines without curl and wget
#   --sha256 HEX   what the binary must have, instead of the release's signed list
#   --key FILE     the release's public key, PEM; the copy of this script in a release carries it
#
# A list is checked with openssl; machines without it need --sha256. Proxies are those of curl and wget: https_proxy.
# Exit codes are ssmbake's: 2 usage, 3 unsupported architecture, 5 verification failed, 6 network, 7 I/O.
set -eu

# Filled in by scripts/release.
release_url=''
release_version=''
release_key=''

fail() {
    code=$1
    echo "error: $2" >&2
    echo "hint: $3" >&2
    exit "$code"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

fetch() {
    if [ -f "$1" ]; then
        cp "$1" "$2" && return 0
    elif has curl; then
        curl -fsSL --retry 3 -o "$2" "$1" && return 0
    elif has wget; then
        wget -q -O "$2" "$1" && return 0
    else
        fail 6 "there is neither curl nor wget" "copy the release here and give its directory as --url, or use --file"
    fi
    fail 6 "\`$1\` cannot be fetched" "is --url right, and a proxy needed (https_proxy)?"
}

digest() {
    if has sha256sum; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif has shasum; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    elif has openssl; then
        openssl dgst -sha256 "$1" | sed 's/.*= *//'
    else
        fail 5 "there is neither sha256sum, shasum nor openssl" "install coreutils or busybox"
    fi
}

# A directory whose programs may be run: /tmp often is mounted noexec.
make_dir() {
    for parent in "${TMPDIR:-/tmp}" /var/tmp /run /root /opt; do
        dir=$(mktemp -d "$parent/ssmbake.XXXXXX" 2>/dev/null) || continue
        printf '#!/bin/sh\nexit 0\n' >"$dir/try" 2>/dev/null && chmod 700 "$dir/try" &&
            "$dir/try" 2>/dev/null && rm "$dir/try" && return 0
        rm -rf "$dir"
    done
    dir=
    fail 7 "no directory lets programs run" "set TMPDIR to one that is not mounted noexec"
}

signed_digest() {
    has openssl || fail 5 "the signed list cannot be checked without openssl" "give --sha256, or install openssl"
    [ -n "$key" ] || fail 2 "there is no key to check the release with" "give --key, or --sha256"
    fetch "$url/SHA256SUMS" "$dir/SHA256SUMS"
    fetch "$url/SHA256SUMS.sig" "$dir/SHA256SUMS.sig"
    openssl dgst -sha256 -verify "$key" -signature "$dir/SHA256SUMS.sig" "$dir/SHA256SUMS" >/dev/null 2>&1 ||
        fail 5 "the signature of the release's list is wrong" "is --url a release of ssmbake, and --key its key?"
    sed -n "s/^\([0-9a-f]\{64\}\)  $name\$/\1/p" "$dir/SHA256SUMS"
}

url=$release_url version=$release_version file='' sha256='' key=''
while [ $# -gt 0 ]; do
    case "$1" in
    --url | --file | --sha256 | --key)
        [ $# -gt 1 ] || fail 2 "$1 needs a value" "see the head of this script"
        case "$1" in
        --url) url=${2%/} ;;
        --file) file=$2 ;;
        --sha256) sha256=$(printf '%s\n' "$2" | sed 'y/ABCDEF/abcdef/') ;;
        --key) key=$2 ;;
        esac
        shift 2
        ;;
    --)
        shift
        break
        ;;
    *) fail 2 "\`$1\` is no option of this script" "options of ssmbake come after --" ;;
    esac
done
[ -n "$url$file" ] || fail 2 "ssmbake must come from somewhere" "give --url or --file"

case "$(uname -m)" in
x86_64 | amd64) arch=x86_64 ;;
aarch64 | arm64) arch=aarch64 ;;
armv7* | armv8*) arch=armv7 ;;
i?86) arch=i686 ;;
*) fail 3 "there is no ssmbake for $(uname -m)" "render a script elsewhere: ssmbake export --format sh" ;;
esac

dir=
trap '[ -z "$dir" ] || rm -rf "$dir"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
make_dir
if [ -z "$key" ] && [ -n "$release_key" ]; then
    key=$dir/key
    printf '%s\n' "$release_key" >"$key"
fi
if [ -z "$version" ] && [ -z "$file" ]; then
    fetch "$url/VERSION" "$dir/VERSION"
    version=$(sed -n '1s/[^0-9a-z.-]//gp;1p' "$dir/VERSION" | head -n 1)
fi
name=ssmbake-$version-linux-$arch
if [ -n "$file" ]; then
    name=$(basename "$file")
    cp "$file" "$dir/ssmbake" || fail 7 "\`$file\` cannot be read" "is it there?"
    [ -n "$sha256" ] || [ -n "$url" ] || fail 2 "a file must be checked against something" "give --sha256, or --url"
else
    fetch "$url/$name" "$dir/ssmbake"
fi
[ -n "$sha256" ] || sha256=$(signed_digest)
[ "$(digest "$dir/ssmbake")" = "$sha256" ] ||
    fail 5 "$name is not the file that the list names" "fetch it again; if that does not help, do not use it"
chmod 700 "$dir/ssmbake" || fail 7 "\`$dir/ssmbake\` cannot be made executable" "is the disk full?"
# It takes this script's place, so that signals reach it and its exit code is the caller's; its file is gone by then.
exec 9<"$dir/ssmbake"
if [ -x /proc/self/fd/9 ]; then
    rm -rf "$dir"
    dir=
    exec /proc/self/fd/9 "$@"
fi
# Without /proc it is waited for; what it ends with is told, whatever signal comes.
exec 9<&-
trap : HUP INT TERM
code=0
"$dir/ssmbake" "$@" || code=$?
exit "$code"
