# Completion of e2b-upload in bash 4.4 or later.
_e2b_upload() {
    local IFS=$'\n' kind='' line
    COMPREPLY=()
    while read -r line; do
        if [ -z "$kind" ]; then kind=$line; else COMPREPLY+=("${line%%$'\t'*}"); fi
    done < <(_E2B_UPLOAD_COMPLETE="${COMP_WORDS[*]:0:COMP_CWORD+1}" "$1" </dev/null 2>/dev/null)
    case $kind in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
    esac
}
complete -F _e2b_upload e2b-upload
