#pragma once
#include "platform/system.h"
#include "platform/context.h"
#include "kernels/elementary.h"
#include "kernels/levels.h"

/* =============================================================================================
   [SECTION] kernels/recurrent: Recurrent cells
   One step of one sequence. `x` [gates, h] holds the contributions of the input and of the previous
   state to each gate; the GRU has the state's in `add` instead. Activated gates stay in x; backward
   replaces them by the gradients of the sums. Gates are in PyTorch's order. Formulas:
   torch.nn.LSTM, GRU and RNN; LSTM is Hochreiter and Schmidhuber 1997 with forget gates, GRU Cho et
   al. 2014.
   ============================================================================================= */
#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast")
#endif

typedef struct ft__cell {   /* pointers to one sequence's rows; h numbers each, gates [.., h] */
    size_t h;
    float *x, *add;
    const float *bias;      /* [gates, h] */
    float *extra;           /* LSTM: the new cell; GRU: the state's part of the new gate, or, with
                               the reset gate before the product, that gate times the state */
    const float *before;    /* the previous state: LSTM the cell, GRU and RNN the hidden state */
    float *state, *y;       /* the new hidden state, and its copy in the output */
    const float *dy;        /* backward: the gradient of y */
    float *dh, *dc;         /* in: the new state's gradient without dy; out: the previous one's */
} ft__cell;

/* i, f, o = sigmoid, g = tanh; c' = f c + i g; h' = o tanh(c') */
FT__INLINE void ft__lstm_step_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT i = s->x, *FT__RESTRICT f = s->x + h, *FT__RESTRICT g = s->x + 2 * h;
    float *FT__RESTRICT o = s->x + 3 * h, *FT__RESTRICT c = s->extra, *FT__RESTRICT y = s->y;
    float *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT bias = s->bias, *FT__RESTRICT before = s->before;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        i[j] = ft__sigmoid(i[j] + bias[j]);
        f[j] = ft__sigmoid(f[j] + bias[h + j]);
        g[j] = ft__tanh(g[j] + bias[2 * h + j]);
        o[j] = ft__sigmoid(o[j] + bias[3 * h + j]);
        c[j] = f[j] * before[j] + i[j] * g[j];
        state[j] = y[j] = o[j] * ft__tanh(c[j]);
    }
}

FT__INLINE void ft__lstm_back_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT i = s->x, *FT__RESTRICT f = s->x + h, *FT__RESTRICT g = s->x + 2 * h;
    float *FT__RESTRICT o = s->x + 3 * h, *FT__RESTRICT dh = s->dh, *FT__RESTRICT dc = s->dc;
    const float *FT__RESTRICT c = s->extra, *FT__RESTRICT before = s->before;
    const float *FT__RESTRICT dy = s->dy;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        float t = ft__tanh(c[j]), all = dh[j] + dy[j], d = dc[j] + all * o[j] * (1 - t * t);
        float di = d * g[j] * i[j] * (1 - i[j]), dg = d * i[j] * (1 - g[j] * g[j]);
        dc[j] = d * f[j];
        f[j] = d * before[j] * f[j] * (1 - f[j]);
        o[j] = all * t * o[j] * (1 - o[j]);
        i[j] = di;
        g[j] = dg;
        dh[j] = 0;
    }
}

/* r, z = sigmoid; n = tanh(x_n + r add_n); h' = (1 - z) n + z h */
FT__INLINE void ft__gru_step_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h;
    float *FT__RESTRICT extra = s->extra, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT add = s->add, *FT__RESTRICT before = s->before;
    const float *FT__RESTRICT bias = s->bias;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        r[j] = ft__sigmoid(r[j] + bias[j] + add[j]);
        z[j] = ft__sigmoid(z[j] + bias[h + j] + add[h + j]);
        extra[j] = add[2 * h + j];
        n[j] = ft__tanh(n[j] + bias[2 * h + j] + r[j] * extra[j]);
        state[j] = y[j] = (1 - z[j]) * n[j] + z[j] * before[j];
    }
}

/* In the new gate the state's gradient differs from the input's: the state's three go to `add`. */
FT__INLINE void ft__gru_back_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h;
    float *FT__RESTRICT extra = s->extra, *FT__RESTRICT add = s->add, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT before = s->before, *FT__RESTRICT dy = s->dy;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        float all = dh[j] + dy[j], dn = all * (1 - z[j]) * (1 - n[j] * n[j]);
        float dz = all * (before[j] - n[j]) * z[j] * (1 - z[j]);
        float dr = dn * extra[j] * r[j] * (1 - r[j]);
        add[2 * h + j] = extra[j] = dn * r[j];
        dh[j] = all * z[j];
        add[j] = r[j] = dr;
        add[h + j] = z[j] = dz;
        n[j] = dn;
    }
}

/* The GRU as Cho et al. have it, whose new gate is n = tanh(x_n + U (r h)): first r and r h, in
   `extra`; then, with that product added to x_n, the rest. */
FT__INLINE void ft__gru_reset_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT extra = s->extra;
    const float *FT__RESTRICT before = s->before, *FT__RESTRICT bias = s->bias;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) {
        r[j] = ft__sigmoid(r[j] + bias[j]);
        extra[j] = r[j] * before[j];
    }
}

FT__INLINE void ft__gru_mix_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h, *FT__RESTRICT y = s->y;
    float *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT before = s->before, *FT__RESTRICT bias = s->bias;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        z[j] = ft__sigmoid(z[j] + bias[h + j]);
        n[j] = ft__tanh(n[j] + bias[2 * h + j]);
        state[j] = y[j] = (1 - z[j]) * n[j] + z[j] * before[j];
    }
}

/* Backward in the opposite order: z and n; then, with the gradient of r h in `add`, r. */
FT__INLINE void ft__gru_mix_back_body(const ft__cell *s)
{
    size_t h = s->h, j;
    float *FT__RESTRICT z = s->x + h, *FT__RESTRICT n = s->x + 2 * h, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT before = s->before, *FT__RESTRICT dy = s->dy;
    FT__INDEPENDENT for (j = 0; j < h; ++j) {
        float all = dh[j] + dy[j], dn = all * (1 - z[j]) * (1 - n[j] * n[j]);
        dh[j] = all * z[j];
        z[j] = all * (before[j] - n[j]) * z[j] * (1 - z[j]);
        n[j] = dn;
    }
}

FT__INLINE void ft__gru_reset_back_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT r = s->x, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT before = s->before, *FT__RESTRICT add = s->add;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) {
        dh[j] += add[j] * r[j];
        r[j] = add[j] * before[j] * r[j] * (1 - r[j]);
    }
}

/* h' = tanh(x) */
FT__INLINE void ft__rnn_step_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT bias = s->bias;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) state[j] = y[j] = x[j] = ft__tanh(x[j] + bias[j]);
}

FT__INLINE void ft__rnn_back_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT dy = s->dy;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) {
        x[j] = (dh[j] + dy[j]) * (1 - x[j] * x[j]);
        dh[j] = 0;
    }
}

/* h' = relu(x) */
FT__INLINE void ft__rnn_relu_step_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT y = s->y, *FT__RESTRICT state = s->state;
    const float *FT__RESTRICT bias = s->bias;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) {
        float sum = x[j] + bias[j];
        state[j] = y[j] = x[j] = ft__choose(sum < 0, 0.0f, sum);
    }
}

FT__INLINE void ft__rnn_relu_back_body(const ft__cell *s)
{
    size_t j;
    float *FT__RESTRICT x = s->x, *FT__RESTRICT dh = s->dh;
    const float *FT__RESTRICT dy = s->dy;
    FT__INDEPENDENT for (j = 0; j < s->h; ++j) {
        x[j] = ft__choose(x[j] > 0, dh[j] + dy[j], 0.0f);
        dh[j] = 0;
    }
}

/* to[j] += from[j] */
FT__INLINE void ft__add_row_body(const float *from, size_t count, float *to)
{
    size_t j;
    FT__INDEPENDENT for (j = 0; j < count; ++j) to[j] += from[j];
}

FT__LEVELS(ft__lstm_step, (const ft__cell *s), ft__lstm_step_body(s))
FT__LEVELS(ft__lstm_back, (const ft__cell *s), ft__lstm_back_body(s))
FT__LEVELS(ft__gru_step, (const ft__cell *s), ft__gru_step_body(s))
FT__LEVELS(ft__gru_back, (const ft__cell *s), ft__gru_back_body(s))
FT__LEVELS(ft__gru_reset, (const ft__cell *s), ft__gru_reset_body(s))
FT__LEVELS(ft__gru_mix, (const ft__cell *s), ft__gru_mix_body(s))
FT__LEVELS(ft__gru_mix_back, (const ft__cell *s), ft__gru_mix_back_body(s))
FT__LEVELS(ft__gru_reset_back, (const ft__cell *s), ft__gru_reset_back_body(s))
FT__LEVELS(ft__rnn_step, (const ft__cell *s), ft__rnn_step_body(s))
FT__LEVELS(ft__rnn_back, (const ft__cell *s), ft__rnn_back_body(s))
FT__LEVELS(ft__rnn_relu_step, (const ft__cell *s), ft__rnn_relu_step_body(s))
FT__LEVELS(ft__rnn_relu_back, (const ft__cell *s), ft__rnn_relu_back_body(s))
FT__LEVELS(ft__add_row, (const float *from, size_t count, float *to),
           ft__add_row_body(from, count, to))

#if defined(__GNUC__) && !defined(__clang__) && !defined(FINETUNE_NO_SIMD)
#pragma GCC pop_options
#endif
