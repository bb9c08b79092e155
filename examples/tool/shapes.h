/* shapes.h - shapes and large numbers as text.
   Part of examples/finetune.c. */

static unsigned long long numbers_in(ft_shape shape)
{
    unsigned long long count = 1;
    int d;
    for (d = 0; d < shape.rank; ++d)
        if (shape.size[d] > 0) count *= (unsigned long long)shape.size[d];
    return count;
}

/* "Nx3x224x224", from dimension `first` on. */
static const char *shape_text(ft_shape shape, int first, char text[80])
{
    size_t at = 0;
    int d;
    text[0] = 0;
    for (d = first; d < shape.rank && at < 66; ++d) {
        if (d > first) text[at++] = 'x';
        if (shape.size[d] > 0) at += (size_t)snprintf(text + at, 80 - at, "%d", shape.size[d]);
        else text[at++] = shape.size[d] == FT_LENGTH ? 'L' : 'N';
        text[at] = 0;
    }
    return text;
}

/* A number as people write it: "640", "11.2 M", "1.8 G". */
static const char *short_number(unsigned long long number, char text[24])
{
    static const char units[] = " kMGTPE";
    double value = (double)number;
    int unit = 0;
    for (; value >= 999.95 && unit < 6; value /= 1000) unit += 1;
    if (unit == 0) snprintf(text, 24, "%llu", number);
    else snprintf(text, 24, "%.1f %c", value, units[unit]);
    return text;
}
