#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "nodes/nodes.h"
#include "nodes/names.h"
#include "graph/plan.h"

/* =============================================================================================
   [SECTION] data/tasks: Tasks
   What is learnt from data. The reader of the data recognises it; the user may say it.
   ============================================================================================= */
static const char *const ft__task_names[] = {"auto", "classification", "regression", "tokens",
                                             "embeddings", "language-model"};
enum { FT__TASKS = sizeof ft__task_names / sizeof ft__task_names[0] };

const char *ft_task_name(ft_task task)
{
    return ft__task_names[(unsigned)task < FT__TASKS ? task : FT_TASK_AUTO];
}

/* The error for a task that is none; `call`: the public function. */
static ft_status ft__check_task(ft__context *c, const char *call, ft_task task)
{
    if ((unsigned)task >= FT__TASKS)
        return ft__fail(c, FT_INVALID, "%s: task is %d; it must be one of ft_task", call,
                        (int)task);
    return c->status;
}

ft_task ft_data_task(const ft_data *data)
{
    if (!data || data->task != FT_TASK_AUTO) return data ? data->task : FT_TASK_AUTO;
    if (data->source.streams > 0) return FT_TASK_LANGUAGE_MODEL;
    return data->source.classes > 0 ? FT_TASK_CLASSIFICATION : FT_TASK_AUTO;
}

/* The task of a run on this data; an error if it cannot serve the wanted one. */
static ft_task ft__task_on(ft__context *c, const char *call, const ft_data *data, ft_task wanted)
{
    ft_task own = ft_data_task(data);
    if (ft__check_task(c, call, wanted) != FT_OK || wanted == FT_TASK_AUTO || wanted == own
        || (data->tasks >> wanted & 1)) return wanted == FT_TASK_AUTO ? own : wanted;
    ft__fail(c, FT_INVALID, "%s: the task is %s, but the data was read for %s%s", call,
             ft_task_name(wanted), own == FT_TASK_AUTO ? "none" : ft_task_name(own),
             own == FT_TASK_AUTO ? ": it has no classes" : ": see ft_text_options.task");
    return own;
}

/* An error if the network has one label for each text, not for each token. */
static void ft__check_predicts_tokens(ft_model *m, const char *call, const char *data)
{
    const ft__node *labels = ft__get_node(m, ft__find_node(m, "labels"));
    if (labels && !ft__has_length(labels))
        ft__fail(&m->context, FT_SHAPE, "%s: %s for language models: this network has one label per"
                 " text, not per token", call, data);
}
