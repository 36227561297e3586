# Completion of e2b-upload in bash 4.4 or later.
_e2b_upload() {
    local IFS=$'\n' kind='' line
    COMPREPLY=()
    while read -r line; do
        if [ -z "$kind" ]; then kind=$line; else COMPREPLY+=("${line%%$'\t'*}"); fi
    done < <(
        exec </dev/null 2>/dev/null
        program=$1
        # It is as typed: ~ and variables still stand there. Nothing else is evaluated.
        plain='^~?([[:alnum:]_./-]|\$[[:alpha:]_]|\$\{[[:alpha:]_][[:alnum:]_]*\})*$'
        [[ $program =~ $plain ]] && eval "program=$program"
        _E2B_UPLOAD_COMPLETE="${COMP_WORDS[*]:0:COMP_CWORD+1}" "$program"
    )
    case $kind in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
    esac
}
complete -F _e2b_upload e2b-upload
