# Completion of e2b-upload in PowerShell.
Register-ArgumentCompleter -Native -CommandName e2b-upload -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { "$_" })
    if ($wordToComplete -eq '') { $words += '' }
    $before = $env:_E2B_UPLOAD_COMPLETE
    $env:_E2B_UPLOAD_COMPLETE = $words -join "`n"
    try { $kind, $lines = & $words[0] 2>$null } finally { $env:_E2B_UPLOAD_COMPLETE = $before }
    if ($kind -eq 'words') {
        foreach ($line in $lines) {
            $name, $help = $line -split "`t", 2
            if (-not $help) { $help = $name }
            [System.Management.Automation.CompletionResult]::new(
                $name, $name, 'ParameterValue', $help)
        }
        return
    }
    # What stands before a value: --output=
    $option = if ($wordToComplete -match '^-[^=]*=') { $Matches[0] } else { '' }
    $value = $wordToComplete.Substring($option.Length)
    [System.Management.Automation.CompletionCompleters]::CompleteFilename($value) |
        Where-Object { $kind -eq 'files' -or $_.ResultType -eq 'ProviderContainer' } |
        ForEach-Object {
            [System.Management.Automation.CompletionResult]::new(
                $option + $_.CompletionText, $_.ListItemText, $_.ResultType, $_.ToolTip)
        }
}
