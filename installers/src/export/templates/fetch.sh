set -eu
dir=$(mktemp -d /var/tmp/ssmbake.XXXXXX)
trap 'rm -rf "$dir"' EXIT
curl -fsSL -o "$dir/ssmbake" @URL@ || wget -q -O "$dir/ssmbake" @URL@
echo "@SHA256@  $dir/ssmbake" | sha256sum -c - >/dev/null
chmod 755 "$dir/ssmbake"
