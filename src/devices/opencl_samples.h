#pragma once
#include "interface/requirements.h"
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "operators/table.h"
#include "operators/rows.h"
#include "devices/opencl_dispatch.h"

/* =============================================================================================
   [SECTION] devices/opencl_samples: OpenCL: every operator compared on a sample of its own
   The text of a sample, in a device's row, is what a call needs: the shapes of the inputs ("8x64",
   with an i in front for whole numbers), then options that are not zero ("padding=0,1"; those that
   the operator lacks are skipped), then an activation that the kernel must apply too ("relu").
   Semicolons separate several samples.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
typedef struct ft__sample_call {
    ft__node node;
    ft__tensor input[12];
    ft__call call;
    ft__options plain;      /* of the activation */
} ft__sample_call;

/* "8x64", "i8x12" */
static void ft__sample_shape(ft__tensor *x, const char *word)
{
    char *at = (char *)(uintptr_t)(word + (*word == 'i'));
    x->type = *word == 'i' ? FT_I32 : FT_F32;
    do {
        if (x->shape.rank > 0) ++at;
        x->shape.size[x->shape.rank++] = (int)strtol(at, &at, 10);
    } while (*at == 'x' && x->shape.rank < FINETUNE_MAX_RANK);
}

/* "padding=0,1" */
static void ft__sample_field(const ft__field *field, ft__options *options, const char *word)
{
    size_t bytes = strcspn(word, "=");
    char *at = (char *)(uintptr_t)(word + bytes);
    int i;
    while (field->name && (strncmp(field->name, word, bytes) || field->name[bytes])) ++field;
    for (i = 0; field->name && i < field->count && (*at == '=' || *at == ','); ++i) {
        int value = (int)strtol(at + 1, &at, 10);
        char *to = (char *)options + field->offset;
        if (field->kind == 'i') ((int *)(void *)to)[i] = value;
        else if (field->kind == 'f') ((float *)(void *)to)[i] = (float)value;
        else ((bool *)(void *)to)[i] = value != 0;
    }
}

/* The call that a sample means; its text ends at a semicolon or its end. */
static bool ft__sample_read(ft__sample_call *s, ft__context *c, int op, const char *text)
{
    static char name[] = "sample";
    const ft__row *row = ft__rows[op];
    bool last = row->flags & (FT__CHANNELS_LAST | FT__ANY_LAYOUT | FT__REORDERS);
    char word[40];
    size_t bytes;
    memset(s, 0, sizeof *s);
    s->node.op = op;
    s->node.name = name;
    s->call.context = c;
    s->call.node = &s->node;
    s->call.input = s->input;
    s->call.training = true;
    for (text += strspn(text, " "); *text && *text != ';'; text += strspn(text, " ")) {
        bytes = strcspn(text, " ;");
        snprintf(word, sizeof word, "%.*s", (int)bytes, text);
        text += bytes;
        if (strchr(word, '=')) ft__sample_field(row->fields, &s->node.options, word);
        else if (strspn(word, "i0123456789x") == strlen(word) && s->call.input_count < 12) {
            ft__tensor *x = &s->input[s->call.input_count];
            bool weight = s->call.input_count++ > 0 && row->flags & FT__WEIGHTS;
            ft__sample_shape(x, word);
            x->channels_last = x->shape.rank == 4 && last && !weight;
        } else s->call.fused = ft__rows[ft__op_named(word)];
    }
    s->call.fused_options = s->call.fused ? &s->plain : NULL;
    if (row->shape(c, &s->node, s->input, s->call.input_count, &s->call.output.shape) != FT_OK)
        return false;
    s->call.output.channels_last = s->call.output.shape.rank == 4 && last;
    return true;
}

/* Compares each operator that has kernels with the processor, as its first call does. */
static void ft__cl_check_all(ft__context *c)
{
    int op;
    for (op = 0; op < FT__OP_COUNT && ft__ok(c); ++op) {
        const char *text = ft__rows[op]->forward ? ft__device_rows[op]->sample : NULL;
        while (text && ft__ok(c)) {
            ft__sample_call s;
            if (ft__sample_read(&s, c, op, text)) ft__verdict_of(&s.call);
            text = strchr(text, ';');
            if (text) ++text;
        }
    }
}
#endif
