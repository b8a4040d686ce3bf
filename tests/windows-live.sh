#!/bin/sh
# The program for Windows on a running Windows, which wine stands in for: `scripts/release smoke` runs it.
#   tests/windows-live.sh RUN PREFIX    RUN starts the program, PREFIX is wine's
set -eu
run=$1
export WINEPREFIX="$2" WINEDEBUG=-all
here=$(dirname "$0")
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; /usr/lib/wine/wine64 wineboot --kill 2>/dev/null || true; rm -rf "$work"' EXIT
wine() { /usr/lib/wine/wine64 "$@" >/dev/null 2>&1; }
# expect CODE TEXT WORDS…
expect() {
    code=$1 text=$2
    shift 2
    status=0
    "$run" "$@" >"$work/out" 2>&1 || status=$?
    if [ "$status" != "$code" ] || ! tr -d '\r' <"$work/out" | grep -qF "$text"; then
        cat "$work/out"
        echo "$*: exit code $status, not $code with: $text" >&2
        exit 1
    fi
}

current='HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
entry='HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\{1}'
wine reg add "$current" /v ProductName /d 'Windows Server 2019 Datacenter' /f
wine reg add "$current" /v InstallationType /d Server /f
wine reg add "$current" /v CurrentBuildNumber /d 17763 /f
expect 0 'Windows Server 2019 (version 17763' detect
expect 9 'FAIL SSMB017 PowerShell is 3.0 or later: there is none' audit --no-network
wine reg add 'HKLM\SOFTWARE\Microsoft\PowerShell\3\PowerShellEngine' /v PowerShellVersion /d 5.1 /f
expect 9 'FAIL SSMB002 the agent is installed: there is no agent' audit --no-network

folder="$WINEPREFIX/drive_c/Program Files/Amazon/SSM"
mkdir -p "$folder"
x86_64-w64-mingw32-gcc -Wall -Werror -o "$folder/amazon-ssm-agent.exe" "$here/windows-agent.c" -ladvapi32 -lcrypt32
cp "$folder/amazon-ssm-agent.exe" "$folder/ssm-agent-worker.exe"
wine reg add "$entry" /v DisplayName /d 'Amazon SSM Agent' /f
wine reg add "$entry" /v DisplayVersion /d 3.3.1957.0 /f
wine sc create AmazonSSMAgent binPath= 'C:\Program Files\Amazon\SSM\amazon-ssm-agent.exe' start= auto
expect 0 'pass SSMB006 the agent starts at boot' audit --no-network
expect 9 'FAIL SSMB022 the agent runs' audit --region eu-west-1
wine sc start AmazonSSMAgent

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$work/key.pem" -out "$work/root.pem" 2>/dev/null
openssl x509 -in "$work/root.pem" -outform der -out "$work/root.der"
port=$((20000 + $$ % 20000))
openssl s_server -accept "127.0.0.1:$port" -cert "$work/root.pem" -key "$work/key.pem" -www -quiet 2>/dev/null &
server=$!
printf '{"Ssm": {"Endpoint": "https://localhost:%s"}}' "$port" >"$folder/amazon-ssm-agent.json"
expect 9 'pass SSMB022 the agent runs' audit --region eu-west-1
expect 9 'is not trusted: invalid peer certificate: UnknownIssuer' audit --region eu-west-1
# Whom Windows trusts is trusted; wine then wants a list of revoked certificates, which Windows does not insist on.
wine "$folder/amazon-ssm-agent.exe" trust "Z:$work/root.der"
expect 9 'SSMB023' audit --region eu-west-1
if grep -q 'UnknownIssuer' "$work/out"; then
    echo "the machine's store is not asked" >&2
    exit 1
fi
