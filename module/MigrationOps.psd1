@{
    RootModule           = 'MigrationOps.psm1'
    ModuleVersion        = '0.1.0'
    GUID                 = '8f0c5d0e-4a4f-4c53-9b0b-6c2f0a6e7d15'
    Author               = 'The MigrationOps authors'
    CompanyName          = 'The MigrationOps authors'
    Copyright            = '(c) 2026 The MigrationOps authors. MIT licensed.'
    Description          = 'The operator''s side of QEMU VM migration, on Linux hosts: reads, checks, compares, sends and receives migration streams; saves, sends, loads and checks the state of vhost-user back-ends (virtiofsd, passt) and of VFIO devices; hands descriptors over for an update of QEMU in place (CPR). Speaks the real protocols; nothing has to be changed in QEMU.'
    PowerShellVersion    = '7.6'
    CompatiblePSEditions = @('Core')
    FormatsToProcess     = @('MigrationOps.Format.ps1xml')
    TypesToProcess       = @('MigrationOps.Types.ps1xml')
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
    CmdletsToExport      = @(
        'Close-CprState'
        'Compare-MigrationStream'
        'Connect-QemuMonitor'
        'ConvertFrom-QemuLog'
        'Disconnect-QemuMonitor'
        'Export-MigrationDeviceState'
        'Find-QemuVM'
        'Get-CprFd'
        'Get-MigrationRelay'
        'Get-MigrationStream'
        'Get-QemuHost'
        'Get-QemuMigration'
        'Get-SaveVMHandler'
        'Get-VfioDevice'
        'Get-VhostBackend'
        'Invoke-QemuMonitorCommand'
        'Measure-QemuDirtyRate'
        'Receive-MigrationStream'
        'Receive-VfioMultifdState'
        'Register-CprFd'
        'Register-SaveVMHandler'
        'Resolve-QemuMigration'
        'Restore-CprState'
        'Restore-VfioState'
        'Resume-QemuMigration'
        'Resume-VfioDevice'
        'Save-CprState'
        'Save-VfioState'
        'Send-MigrationStream'
        'Send-VfioMultifdState'
        'Start-MigrationRelay'
        'Start-QemuMigration'
        'Start-VhostBackend'
        'Start-VhostStateRestore'
        'Start-VhostStateSave'
        'Stop-MigrationRelay'
        'Stop-QemuMigration'
        'Stop-VhostBackend'
        'Switch-QemuMigration'
        'Test-DeviceState'
        'Test-MigrationStream'
        'Test-QemuMigration'
        'Unregister-CprFd'
        'Unregister-SaveVMHandler'
        'Wait-QemuEvent'
    )
    PrivateData          = @{
        PSData = @{
            Tags         = @('migration', 'virtualization', 'QEMU', 'KVM', 'vhost-user', 'virtiofsd', 'passt', 'VFIO', 'CPR', 'Linux', 'PSEdition_Core')
            LicenseUri   = 'https://opensource.org/license/mit'
            ProjectUri   = 'https://github.com/migrationops/migrationops'
            ReleaseNotes = 'See CHANGELOG.md.'
        }
    }
}
