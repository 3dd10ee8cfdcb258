# What every file of the suite needs: the module as it was laid out, back-ends that end with their test, and a way to
# look at errors. To be dot-sourced in BeforeAll.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$script:repository = (Resolve-Path -LiteralPath "$PSScriptRoot/../..").Path
$script:moduleFolder = $env:MIGRATIONOPS_MODULE ? $env:MIGRATIONOPS_MODULE : (Join-Path $repository 'output/MigrationOps' (Import-PowerShellDataFile "$repository/module/MigrationOps.psd1").ModuleVersion)
$script:manifestPath = Join-Path $moduleFolder 'MigrationOps.psd1'
Import-Module -Name $manifestPath
# How to start another PowerShell like this one.
$script:pwsh = & "$repository/tools/Get-PowerShellCommand.ps1"
$script:started = [Collections.Generic.List[object]]::new()

# A path for a socket, short enough for every system.
function New-SocketPath {
    Join-Path $TestDrive "$([Guid]::NewGuid().ToString('N').Substring(0, 8)).sock"
}

# An embedded back-end that ends with its test (Stop-StartedBackend in AfterEach).
function Start-Backend {
    param([long] $Size, [byte[]] $State, [string] $StatePath, $Fault, [long] $FaultByte, $FaultRequest,
        [switch] $OwnDescriptor, [switch] $NoDeviceState, [switch] $NoProtocolFeatures, [string] $SocketMode, [string] $SocketGroup)
    $backend = Start-VhostBackend -SocketPath (New-SocketPath) @PSBoundParameters
    $script:started.Add($backend)
    $backend
}

function Stop-StartedBackend {
    $script:started | Stop-VhostBackend
    $script:started.Clear()
}

# The error record that a script block ends with; it is a failure of the test if there is none.
function Get-Failure {
    param([scriptblock] $Script)
    try {
        $output = & $Script
    }
    catch {
        return $_
    }

    throw "No error came of {$Script}; its output: $output"
}

# Waits for something that another thread or process brings about.
function Wait-Until {
    param([scriptblock] $Condition, [string] $What, [double] $Seconds = 20)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($clock.Elapsed.TotalSeconds -gt $Seconds) {
            throw "Nothing within $Seconds s: $What"
        }

        [Threading.Thread]::Sleep(5)
    }
}

# Fails unless the error has what a script and an operator need of it.
function Assert-Failure {
    param([Management.Automation.ErrorRecord] $Failure, [string] $Id, [string] $Category, [string] $Message, $Target)
    "$($Failure.FullyQualifiedErrorId.Split(',')[0]) $($Failure.CategoryInfo.Category)" | Should -BeExactly "$Id $Category" -Because $Failure.Exception.Message
    $Failure.Exception.Message | Should -BeLike $Message
    $Failure.ErrorDetails.RecommendedAction | Should -Not -BeNullOrEmpty
    $Failure.TargetObject | Should -Be $Target
}

# Everything in the test's folder except for sockets of running back-ends.
function Get-Leftover {
    Get-ChildItem -LiteralPath $TestDrive -Force -Recurse -File | Where-Object -Property UnixFileMode -NotLike -Value 'Socket*' |
        Where-Object -Property Extension -NE -Value '.sock' | ForEach-Object -MemberName Name
}

# A PowerShell of its own in this process, with the module, so that a pipeline can be stopped from outside.
function New-Shell {
    param([string] $Script, [hashtable] $Parameters = @{})
    $shell = [powershell]::Create()
    $null = $shell.AddScript("param(`$manifest, `$p) `$ErrorActionPreference = 'Stop'; Import-Module `$manifest; $Script").AddArgument($manifestPath).AddArgument($Parameters)
    $shell
}

# A port that was free a moment ago.
function Get-FreePort {
    $listener = [Net.Sockets.TcpListener]::new([Net.IPAddress]::Loopback, 0)
    $listener.Start()
    $listener.LocalEndpoint.Port
    $listener.Stop()
}

# A folder with an authority and both sides' certificates, as QEMU lays them out.
function New-TlsFolder {
    $folder = New-Item -ItemType Directory -Path (Join-Path $TestDrive "tls-$([Guid]::NewGuid().ToString('N').Substring(0, 8))")
    $until = [DateTimeOffset]::Now.AddDays(2)
    $authorityKey = [Security.Cryptography.ECDsa]::Create([Security.Cryptography.ECCurve+NamedCurves]::nistP256)
    $authority = [Security.Cryptography.X509Certificates.CertificateRequest]::new('CN=authority', $authorityKey, 'SHA256')
    $authority.CertificateExtensions.Add([Security.Cryptography.X509Certificates.X509BasicConstraintsExtension]::new($true, $false, 0, $true))
    $authority = $authority.CreateSelfSigned([DateTimeOffset]::Now.AddDays(-2), $until)
    Set-Content -LiteralPath "$folder/ca-cert.pem" -Value $authority.ExportCertificatePem()
    foreach ($side in @{ Name = 'server'; Oid = '1.3.6.1.5.5.7.3.1' }, @{ Name = 'client'; Oid = '1.3.6.1.5.5.7.3.2' }) {
        $key = [Security.Cryptography.ECDsa]::Create([Security.Cryptography.ECCurve+NamedCurves]::nistP256)
        $request = [Security.Cryptography.X509Certificates.CertificateRequest]::new("CN=$($side.Name)", $key, 'SHA256')
        $usage = [Security.Cryptography.OidCollection]::new()
        $null = $usage.Add([Security.Cryptography.Oid]::new($side.Oid))
        $request.CertificateExtensions.Add([Security.Cryptography.X509Certificates.X509EnhancedKeyUsageExtension]::new($usage, $true))
        $names = [Security.Cryptography.X509Certificates.SubjectAlternativeNameBuilder]::new()
        $names.AddIpAddress([Net.IPAddress]::Loopback)
        $request.CertificateExtensions.Add($names.Build())
        $certificate = $request.Create($authority, [DateTimeOffset]::Now.AddDays(-1), $until.AddHours(-1), [Guid]::NewGuid().ToByteArray())
        Set-Content -LiteralPath "$folder/$($side.Name)-cert.pem" -Value $certificate.ExportCertificatePem()
        Set-Content -LiteralPath "$folder/$($side.Name)-key.pem" -Value $key.ExportPkcs8PrivateKeyPem()
        [IO.File]::SetUnixFileMode("$folder/$($side.Name)-key.pem", 'UserRead, UserWrite')
    }

    $folder.FullName
}

# A machine with VFIO devices for the commands of this process, until its Dispose: folders of sysfs, /dev and /proc below a folder of
# its own - Pester follows links when it clears the test's, and those of sysfs go round - and devices that keep the kernel's rules in the place of the kernel's ioctls.
function New-MadeMachine {
    param([switch] $WithoutIommufd)
    $context = [Runtime.Loader.AssemblyLoadContext]::GetLoadContext((Get-Command -Name Get-VfioDevice).ImplementingType.Assembly)
    $double = $context.LoadFromAssemblyPath("$repository/output/TestDevices/MigrationOps.TestDevices.dll")
    $type = $double.GetType('MigrationOps.TestDevices.MadeMachine', $true)
    $machine = $type::new([IO.Directory]::CreateTempSubdirectory('machine-').FullName, -not $WithoutIommufd)
    $machine.Install()
    $machine
}

# Bytes that do not repeat soon.
function New-StateBytes {
    param([int] $Length = 300000)
    $bytes = [byte[]]::new($Length)
    [Random]::new(13).NextBytes($bytes)
    , $bytes
}
