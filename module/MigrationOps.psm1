# The shared types are the ones a user may name; the cmdlets live in a load context of their own.
# Core commands only: the first command of another module (Add-Type, Join-Path) costs a new session some 100 ms.
$null = [System.Reflection.Assembly]::LoadFrom("$PSScriptRoot/MigrationOps.Shared.dll")
$cmdletAssembly = [MigrationOps.ModuleLoadContext]::LoadCmdlets()
$inner = Import-Module -Assembly $cmdletAssembly -PassThru
$cmdletAssembly.GetType('MigrationOps.PowerShell.Hosting.ModuleImport')::Complete($ExecutionContext.SessionState.Module, $inner)

# What lives in this runspace (started back-ends and the like) ends with the module.
$session = $cmdletAssembly.GetType('MigrationOps.PowerShell.Hosting.RunspaceSession')
$ExecutionContext.SessionState.Module.OnRemove = { $session::CloseCurrent() }.GetNewClosure()
