# Fetches the ssmbake for Windows, checks it and runs it. Nothing is left behind. PowerShell 3 and later.
#
#   powershell -ExecutionPolicy Bypass -File bootstrap.ps1 [OPTIONS] detect --root D:\
#
#   --url URL      the directory of a release, or of a mirror of it
#   --file FILE    the program itself, for machines without a network
#   --sha256 HEX   what the program must have, instead of the release's signed list
#
# Options of ssmbake follow these. The proxy is Windows' own, or that of HTTPS_PROXY.
# Exit codes are ssmbake's: 2 usage, 3 unsupported architecture, 5 verification failed, 6 network, 7 I/O.
$ErrorActionPreference = 'Stop'

# Filled in by scripts/release.
$release_url = ''
$release_version = ''
$release_modulus = ''

function Stop-Here([int]$Code, [string]$Message, [string]$Hint) {
    [Console]::Error.WriteLine("error: $Message")
    [Console]::Error.WriteLine("hint: $Hint")
    if ($script:dir) { Remove-Item -Recurse -Force $script:dir -ErrorAction SilentlyContinue }
    exit $Code
}

function Get-Bytes([string]$Name) {
    try {
        $client = New-Object Net.WebClient
        if ($env:HTTPS_PROXY) { $client.Proxy = New-Object Net.WebProxy($env:HTTPS_PROXY, $true) }
        return , $client.DownloadData("$url/$Name")
    } catch {
        Stop-Here 6 "``$url/$Name`` cannot be fetched: $($_.Exception.Message)" 'is --url right, and a proxy needed?'
    }
}

# The list's signature is checked before a line of it is read.
function Get-SignedDigest([string]$Name) {
    if (-not $release_modulus) { Stop-Here 2 'there is no key to check the release with' 'give --sha256' }
    $list = Get-Bytes 'SHA256SUMS'
    $signature = Get-Bytes 'SHA256SUMS.sig'
    $rsa = New-Object Security.Cryptography.RSACryptoServiceProvider
    $rsa.FromXmlString("<RSAKeyValue><Modulus>$release_modulus</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>")
    if (-not $rsa.VerifyData($list, 'SHA256', $signature)) {
        Stop-Here 5 "the signature of the release's list is wrong" 'is --url a release of ssmbake?'
    }
    foreach ($line in [Text.Encoding]::ASCII.GetString($list) -split "`n") {
        if ($line -match '^([0-9a-f]{64})  (\S+)$' -and $Matches[2] -eq $Name) { return $Matches[1] }
    }
}

$dir = $null
$url = $release_url
$file = $null
$sha256 = $null
$rest = @($args)
while ($rest.Count -gt 0 -and '--url', '--file', '--sha256' -contains $rest[0]) {
    if ($rest.Count -lt 2) { Stop-Here 2 "$($rest[0]) needs a value" 'see the head of this script' }
    switch ($rest[0]) {
        '--url' { $url = $rest[1].TrimEnd('/') }
        '--file' { $file = $rest[1] }
        '--sha256' { $sha256 = $rest[1].ToLowerInvariant() }
    }
    $rest = @($rest | Select-Object -Skip 2)
}
if ($rest.Count -gt 0 -and $rest[0] -eq '--') { $rest = @($rest | Select-Object -Skip 1) }
if (-not ($url -or $file)) { Stop-Here 2 'ssmbake must come from somewhere' 'give --url or --file' }
if ($env:PROCESSOR_ARCHITECTURE -ne 'AMD64' -and $env:PROCESSOR_ARCHITEW6432 -ne 'AMD64') {
    Stop-Here 3 "there is no ssmbake for $env:PROCESSOR_ARCHITECTURE" 'use a 64-bit Windows, or look at the tree from elsewhere'
}

# Windows before 2016 offers TLS 1.2 only when asked: 3072.
try { [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor 3072 } catch { }
$code = 1
try {
    $dir = Join-Path ([IO.Path]::GetTempPath()) ('ssmbake.' + [Guid]::NewGuid())
    New-Item -ItemType Directory $dir | Out-Null
    $version = $release_version
    if (-not ($version -or $file)) { $version = [Text.Encoding]::ASCII.GetString((Get-Bytes 'VERSION')).Trim() }
    $name = "ssmbake-$version-windows-x86_64.exe"
    if ($file) {
        $name = Split-Path -Leaf $file
        $bytes = [IO.File]::ReadAllBytes((Resolve-Path $file).ProviderPath)
    } else {
        $bytes = Get-Bytes $name
    }
    if (-not $sha256) { $sha256 = Get-SignedDigest $name }
    $digest = [Security.Cryptography.SHA256]::Create().ComputeHash($bytes)
    if ([BitConverter]::ToString($digest).Replace('-', '').ToLowerInvariant() -ne $sha256) {
        Stop-Here 5 "$name is not the file that the list names" 'fetch it again; if that does not help, do not use it'
    }
    $program = Join-Path $dir 'ssmbake.exe'
    [IO.File]::WriteAllBytes($program, $bytes)
    & $program $rest
    $code = $LASTEXITCODE
} catch {
    Stop-Here 7 $_.Exception.Message 'is there room in TEMP, and may programs run there?'
} finally {
    if ($dir) { Remove-Item -Recurse -Force $dir -ErrorAction SilentlyContinue }
}
exit $code
