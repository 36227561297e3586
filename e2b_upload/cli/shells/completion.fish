# Completion of e2b-upload in fish.
function __e2b_upload
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l asked "$words[1]"
    for word in $words[2..] "$current"
        set asked "$asked"\n"$word"
    end
    # It is as typed: ~ and variables still stand there. Nothing else is evaluated.
    set -l program $words[1]
    string match -qr '^[\w./~${}-]*$' -- $program && eval set program $program
    type -q -- $program || return
    set -l lines (_E2B_UPLOAD_COMPLETE="$asked" $program </dev/null 2>/dev/null)
    # What stands before a value: --output=
    set -l option (string match -r -- '^-[^=]*=' "$current")
    set -l value (string replace -r -- '^-[^=]*=' '' "$current")
    switch "$lines[1]"
        case files
            string replace -r -- '^' "$option" (__fish_complete_path "$value")
        case folders
            string replace -r -- '^' "$option" (__fish_complete_directories "$value" '')
        case words
            string join -- \n $lines[2..]
    end
end
complete --command e2b-upload --no-files --arguments '(__e2b_upload)'
