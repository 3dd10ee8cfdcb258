# The shared types are the ones a user may name; the cmdlets live in a load context of their own.
# Core commands only: the first command of another module (Add-Type, Join-Path) costs a new session some 100 ms.
$null = [System.Reflection.Assembly]::LoadFrom("$PSScriptRoot/MigrationOps.Shared.dll")
$cmdletAssembly = [MigrationOps.ModuleLoadContext]::LoadCmdlets()
$inner = Import-Module -Assembly $cmdletAssembly -PassThru

# PowerShell issue 20710: an assembly that was imported before exports nothing through a script module that is imported
# again. The cmdlets are there all the same, in the inner module; this passes them on.
$addExportedCmdlet = [System.Management.Automation.PSModuleInfo].GetMethod(
    'AddExportedCmdlet', [System.Reflection.BindingFlags]'Instance, NonPublic')
foreach ($cmdlet in $inner.ExportedCmdlets.Values) {
    $addExportedCmdlet.Invoke($ExecutionContext.SessionState.Module, @(, $cmdlet))
}

# Whoever ends the shim of a PowerShell that is a .NET tool means what runs in it.
$cmdletAssembly.GetType('MigrationOps.PowerShell.Hosting.ToolShim')::Watch()

# What lives in this runspace (started back-ends and the like) ends with the module.
$session = $cmdletAssembly.GetType('MigrationOps.PowerShell.Hosting.RunspaceSession')
$ExecutionContext.SessionState.Module.OnRemove = { $session::CloseCurrent() }.GetNewClosure()
