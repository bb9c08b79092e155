#!/bin/sh
# Prints the names of all operators that a finetune.h lists:  sh operators.sh FINETUNE.H
sed -n '/define FINETUNE_ACTIVATION_LIST(X)/,/^$/p; /define FT__OPERATORS(X, O)/,/^$/p' "$1" |
    grep -o '\b[XO]([a-z0-9_]*)' | sed 's/.(//; s/)//'
