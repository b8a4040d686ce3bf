
# Everything below runs with Windows PowerShell 3.0 and what Windows brings, as a script or dot-sourced from an answer file.
$service = 'AmazonSSMAgent'
$folder = Join-Path $env:ProgramFiles 'Amazon\SSM'
$state = Join-Path $env:ProgramData 'Amazon\SSM'
$changed = $false
$work = $null

function Say([string]$Text) { [Console]::Out.WriteLine($Text) }

# Runs at every end, a failed one too.
function Clear-Work { if ($script:work) { Remove-Item -Recurse -Force $script:work -ErrorAction SilentlyContinue } }

function Stop-Here([int]$Code, [string]$Message, [string]$Hint) {
    [Console]::Error.WriteLine("error: $Message")
    if ($Hint) { [Console]::Error.WriteLine("hint: $Hint") }
    Clear-Work
    exit $Code
}

# The system this script was made for.
function Test-System {
    $identity = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
    if (-not $identity.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
        Stop-Here 7 'only an administrator can install' 'run it elevated'
    }
    $current = Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    if ($os_builds -notcontains $current.CurrentBuildNumber -or (Get-WmiObject Win32_OperatingSystem).ProductType -eq 1) {
        Stop-Here 3 "this is $($current.ProductName), build $($current.CurrentBuildNumber), the script is for $os_name" 'render one for this system'
    }
    if ($env:PROCESSOR_ARCHITECTURE -ne $arch -and $env:PROCESSOR_ARCHITEW6432 -ne $arch) {
        Stop-Here 3 "this machine is $env:PROCESSOR_ARCHITECTURE, the script is for $arch" 'render one for this architecture'
    }
}

function Get-Installed {
    foreach ($view in '', 'WOW6432Node\') {
        $found = Get-ItemProperty "HKLM:\SOFTWARE\${view}Microsoft\Windows\CurrentVersion\Uninstall\*" -ErrorAction SilentlyContinue |
            Where-Object { $_.DisplayName -eq 'Amazon SSM Agent' } | Select-Object -First 1
        if ($found) { return $found.DisplayVersion }
    }
}

# A file that somebody else wrote is not replaced: that is known before anything is installed.
function Read-Config {
    $path = Join-Path $folder 'amazon-ssm-agent.json'
    if (-not (Test-Path $path)) { return }
    if ([IO.File]::ReadAllText($path) -ne $config) {
        Stop-Here 8 "``$path`` exists and is another one" 'merge the settings by hand, or remove it'
    }
    return 'as wanted'
}

# Nothing runs that is not AWS's, whole, and the version that was asked for.
function Test-Package([string]$Path) {
    if ($digest) {
        $stream = [IO.File]::OpenRead($Path)
        $hash = [Security.Cryptography.SHA256]::Create().ComputeHash($stream)
        $stream.Close()
        $found = [BitConverter]::ToString($hash).Replace('-', '').ToLowerInvariant()
        if ($found -ne $digest) { Stop-Here 5 "the package's SHA-256 is $found, $digest is expected" 'do not use this file' }
    }
    $signature = Get-AuthenticodeSignature $Path
    if ($signature.Status -ne 'Valid') {
        Stop-Here 5 "the package's signature is not valid: $($signature.StatusMessage)" 'do not use this file'
    }
    $signer = $signature.SignerCertificate.GetNameInfo([Security.Cryptography.X509Certificates.X509NameType]::SimpleName, $false)
    if ($signer -ne $publisher) { Stop-Here 5 "the package is signed by $signer, $publisher is expected" 'do not use this file' }
    $found = ([string](Get-Item $Path).VersionInfo.ProductVersion).Trim()
    if ($found -ne $agent_version) {
        Stop-Here 5 "the package is version $found, $agent_version is expected" 'do not use this file'
    }
}

function Install-Agent([string]$Given) {
    $have = Get-Installed
    if ($have -eq $agent_version -and (Test-Path (Join-Path $folder 'amazon-ssm-agent.exe'))) { return }
    if ($have -and [Version]$have -gt [Version]$agent_version -and $downgrade -ne 'allow') {
        Stop-Here 8 "the agent $have is installed, which is newer than $agent_version" 'render the script with --allow-downgrade'
    }
    $path = Join-Path $script:work 'AmazonSSMAgentSetup.exe'
    if ($Given) {
        Copy-Item $Given $path
    } else {
        # Windows before 2016 offers TLS 1.2 only when asked: 3072.
        try { [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor 3072 } catch { }
        try {
            $client = New-Object Net.WebClient
            if ($env:HTTPS_PROXY) { $client.Proxy = New-Object Net.WebProxy($env:HTTPS_PROXY, $true) }
            $client.DownloadFile($url, $path)
        } catch {
            Stop-Here 6 "cannot download ${url}: $($_.Exception.Message)" 'check network and proxy, or name a file'
        }
    }
    Test-Package $path
    $log = Join-Path $env:SystemRoot 'Temp\AmazonSSMAgentSetup.log'
    $setup = Start-Process $path -ArgumentList '/quiet', '/norestart', '/log', $log -Wait -PassThru
    # 3010: done, after the next boot.
    if (0, 3010 -notcontains $setup.ExitCode) {
        Stop-Here 10 "the setup failed with $($setup.ExitCode) and rolled back" "see $log"
    }
    # The setup starts the agent, which writes the identity of this machine: no copy may have it.
    Stop-Service $service
    if (-not $have) {
        foreach ($name in 'InstanceData', 'Vault', 'Logs', 'Download', 'Update', 'LocalCommands', 'Session', 'runtimeconfig') {
            Remove-Item -Recurse -Force (Join-Path $state "$name\*") -ErrorAction SilentlyContinue
        }
    }
    $script:changed = $true
    Say "installed amazon-ssm-agent $agent_version"
}

function Enable-Agent {
    $key = "HKLM:\SYSTEM\CurrentControlSet\Services\$service"
    if ((Get-ItemProperty $key).Start -eq 2) { return }
    Set-Service $service -StartupType Automatic
    if ((Get-ItemProperty $key).Start -ne 2) { Stop-Here 7 'the service cannot be enabled' 'is a policy in the way?' }
    $script:changed = $true
    Say 'enabled the service'
}

function Add-Anchor([string]$Label, [string]$Der) {
    $certificate = New-Object Security.Cryptography.X509Certificates.X509Certificate2(, [Convert]::FromBase64String($Der))
    $store = New-Object Security.Cryptography.X509Certificates.X509Store('Root', 'LocalMachine')
    $store.Open('ReadWrite')
    if (-not $store.Certificates.Contains($certificate)) {
        $store.Add($certificate)
        $script:changed = $true
        Say "trusted $Label"
    }
    $store.Close()
}

# Without a byte-order mark, which the agent cannot read.
function Write-Config {
    if ($config_state) { return }
    [IO.File]::WriteAllText((Join-Path $folder 'amazon-ssm-agent.json'), $config)
    $script:changed = $true
    Say 'configured the agent'
}

function Write-Proxy([string[]]$Lines) {
    $key = "HKLM:\SYSTEM\CurrentControlSet\Services\$service"
    $have = @((Get-ItemProperty $key).Environment | Where-Object { $_ })
    $others = @($have | Where-Object { 'http_proxy', 'https_proxy', 'no_proxy' -notcontains ($_ -split '=')[0] })
    $wanted = [string[]]($others + $Lines)
    if (($have -join "`n") -ceq ($wanted -join "`n")) { return }
    New-ItemProperty $key -Name Environment -PropertyType MultiString -Value $wanted -Force | Out-Null
    $script:changed = $true
    Say "set the agent's proxy"
}

$work = Join-Path $env:SystemRoot ('Temp\ssmbake.' + [Guid]::NewGuid())
New-Item -ItemType Directory $work | Out-Null
try {
    Test-System
    if ($config) { $config_state = Read-Config }
