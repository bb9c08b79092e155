#pragma once

/* =============================================================================================
   [SECTION] platform/formatting: printf's sizes and 64-bit numbers, the same everywhere
   ============================================================================================= */
/* GCC for Windows needs the name gnu_printf for C99's formats: "printf" means those of Microsoft's
   old library there, without %zu and %llu. */
#if defined(__GNUC__) && !defined(__clang__)
#define FT__PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))
#elif defined(__GNUC__)
#define FT__PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define FT__PRINTF(text, first)
#endif

/* The output so far. As with snprintf, `count` grows even if there is no more room. */
typedef struct ft__printed { char *to; size_t size, count; } ft__printed;

static void ft__print_letter(ft__printed *out, char letter)
{
    if (out->count + 1 < out->size) out->to[out->count] = letter;
    out->count += 1;
}

/* %d, %u, %x and %X of any length: `size` is the number without its sign. */
static void ft__print_number(ft__printed *out, uint64_t size, bool negative, char conversion,
                             int width, bool zeros)
{
    const char *digits = conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    unsigned base = conversion == 'x' || conversion == 'X' ? 16 : 10;
    char text[24];
    int count = 0;
    do text[count++] = digits[size % base]; while ((size /= base) > 0);
    width -= count + negative;
    if (!zeros) for (; width > 0; --width) ft__print_letter(out, ' ');
    if (negative) ft__print_letter(out, '-');
    for (; width > 0; --width) ft__print_letter(out, '0');
    while (count > 0) ft__print_letter(out, text[--count]);
}

/* Texts and doubles go through snprintf itself. */
static void ft__print_text(ft__printed *out, int width, int precision, const char *text)
{
    size_t left = out->size > out->count ? out->size - out->count : 0;
    int count = snprintf(left ? out->to + out->count : NULL, left, "%*.*s", width, precision, text);
    if (count > 0) out->count += (size_t)count;
}

static void ft__print_double(ft__printed *out, int width, int precision, char conversion,
                             double number)
{
    char format[] = "%*.*g";
    size_t left = out->size > out->count ? out->size - out->count : 0;
    int count;
    format[4] = conversion;
    count = snprintf(left ? out->to + out->count : NULL, left, format, width, precision, number);
    if (count > 0) out->count += (size_t)count;
}

/* A width or precision: digits, or * for an argument. */
static int ft__print_width(const char **format, int given)
{
    int width = 0;
    if (**format == '*') {
        *format += 1;
        return given;
    }
    for (; **format >= '0' && **format <= '9'; ++*format) width = 10 * width + (**format - '0');
    return width;
}

/* C99's vsnprintf with the flag 0 and the conversions d u x X c s e f g. Microsoft's older library
   and newlib-nano do not know %zu and %llu: they print the letters, and the second then uses the
   number as the next argument, perhaps a pointer. So numbers are converted here. */
static FT__PRINTF(3, 0) int ft__vprint(char *to, size_t size, const char *format,
                                       va_list arguments)
{
    ft__printed out;
    out.to = to;
    out.size = size;
    out.count = 0;
    for (; *format; ++format) {
        int width, precision = -1, longs = 0;
        bool zeros, sizes;
        if (*format != '%' || *++format == '%') {
            ft__print_letter(&out, *format);
            continue;
        }
        zeros = *format == '0';
        width = ft__print_width(&format, *format == '*' ? va_arg(arguments, int) : 0);
        if (*format == '.') {
            ++format;
            precision = ft__print_width(&format, *format == '*' ? va_arg(arguments, int) : 0);
        }
        for (; *format == 'l'; ++format) ++longs;
        sizes = *format == 'z';
        if (sizes) ++format;
        switch (*format) {
        case 's': ft__print_text(&out, width, precision, va_arg(arguments, const char *)); break;
        case 'c': ft__print_letter(&out, (char)va_arg(arguments, int)); break;
        case 'd': {
            long long n = longs > 1 ? va_arg(arguments, long long)
                : longs ? va_arg(arguments, long) : va_arg(arguments, int);
            ft__print_number(&out, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, n < 0, 'd', width, zeros);
        } break;
        case 'u': case 'x': case 'X':
            ft__print_number(&out, sizes ? va_arg(arguments, size_t)
                : longs > 1 ? va_arg(arguments, unsigned long long)
                : longs ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), false,
                *format, width, zeros);
            break;
        case 'e': case 'f': case 'g':
            ft__print_double(&out, width, precision, *format, va_arg(arguments, double));
            break;
        default: --format; /* nothing else is used; stops at the end of the text */
        }
    }
    if (size > 0) to[out.count < size ? out.count : size - 1] = 0;
    return (int)out.count;
}

/* snprintf by ft__vprint. */
static FT__PRINTF(3, 4) int ft__print(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    int count;
    va_start(arguments, format);
    count = ft__vprint(to, size, format, arguments);
    va_end(arguments);
    return count;
}
