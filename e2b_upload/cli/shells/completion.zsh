#compdef e2b-upload
# Completion of e2b-upload in zsh: to be sourced, or a file _e2b-upload in a folder of fpath.
_e2b-upload() {
    local asked="${(F)words[1,CURRENT]}" line name
    local -a lines described
    # The program is as typed: ~ and variables still stand there. Nothing else is evaluated.
    lines=("${(@f)$(
        exec </dev/null 2>/dev/null
        program=$words[1]
        [[ $program == *[^[:alnum:]_./~\${}-]* ]] || program=${(e)program}
        _E2B_UPLOAD_COMPLETE=$asked ${(Q)~program}
    )}")
    for line in $lines[2,-1]; do
        name=${line%%$'\t'*}
        described+=("${name//:/\\:}${${line#$name}/$'\t'/:}")
    done
    case $lines[1] in
        (files|folders)
            [[ $PREFIX == -*=* ]] && compset -P '*='
            if [[ $lines[1] == files ]]; then _files; else _files -/; fi ;;
        (*) _describe e2b-upload described ;;
    esac
}
if [[ $funcstack[1] == _e2b-upload ]]; then
    _e2b-upload "$@" # found in fpath, and called for the first time
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _e2b-upload e2b-upload
fi
