#pragma once
#include "interface/types.h"
#include "platform/formatting.h"
#include "platform/context.h"
#include "basics/random.h"
#include "basics/files.h"
#include "basics/saving.h"
#include "devices/opencl_library.h"
#include "devices/opencl_memory.h"

/* =============================================================================================
   [SECTION] devices/opencl_program: OpenCL: the program
   When a device is opened, the driver compiles kernels.cl, which was compiled in as text, or the
   file ft_desc.kernels_path. With ft_desc.cache the binary is kept there for the next start, in the
   library's own format, in the machine's byte order:
       "ftprog1\0"; a hash of device, driver, options and source, the binary's bytes, and a hash of
       those two and of the binary, uint64 each; the binary
   The sizes of the tiled products are tried before the first one runs (opencl_dispatch). With sizes
   other than the first these kernels are a separate program, kept beside the main one; the choice
   is kept in a third file of the same form, whose "binary" is the four sizes.
   A file that was made for anything else, or is damaged, is replaced, with a line in the log.
   ============================================================================================= */
#ifdef FINETUNE_OPENCL
typedef struct ft__kernel_text { int line; const char *name, *text; } ft__kernel_text;

static const ft__kernel_text ft__kernel_texts[] = {
#define FINETUNE_LINE {__LINE__,
#define FINETUNE_MMA
#define FINETUNE_CL(name, ...) #name, #__VA_ARGS__},
#include "kernels.cl"
#undef FINETUNE_CL
#undef FINETUNE_MMA
#undef FINETUNE_LINE
};

/* The macros that the chunks use: the lists, and what kernels.cl makes of a list's lines. */
#define FT__MACRO_TEXT(name, ...) " X(" #name ", " #__VA_ARGS__ ")"
#define FT__EXPANDED_TEXT(...) #__VA_ARGS__
#define FT__EXPANDED(...) FT__EXPANDED_TEXT(__VA_ARGS__)
#define FT__MACRO(name, ...) "#define " #name #__VA_ARGS__ " " FT__EXPANDED(name __VA_ARGS__) "\n"
static const char ft__kernel_macros[] =
    "#define FINETUNE_PASTE(a, b) a##b\n"
    "#define FINETUNE_ACTIVATIONS(X)" FINETUNE_ACTIVATIONS(FT__MACRO_TEXT) "\n"
    FT__MACRO(ACTIVATION_NUMBER, (name, value, slope))
    FT__MACRO(ACTIVATION_VALUE, (name, value, slope))
    FT__MACRO(ACTIVATION_SLOPE, (name, value, slope))
    "#define FINETUNE_PAIRS(X)" FINETUNE_PAIRS(FT__MACRO_TEXT) "\n"
    FT__MACRO(PAIR_NUMBER, (name, value, da, db))
    FT__MACRO(PAIR_VALUE, (name, value, da, db))
    FT__MACRO(PAIR_LEFT, (name, value, da, db))
    FT__MACRO(PAIR_RIGHT, (name, value, da, db))
    "#define FINETUNE_UNARIES(X)" FINETUNE_UNARIES(FT__MACRO_TEXT) "\n"
    FT__MACRO(UNARY_NUMBER, (name, value, slope))
    FT__MACRO(UNARY_VALUE, (name, value, slope))
    FT__MACRO(UNARY_SLOPE, (name, value, slope));

/* Only devices with tensor cores can compile these. */
static bool ft__needs_tensor_cores(int chunk)
{
    return chunk >= FT__KERNEL_mma && chunk <= FT__KERNEL_weight_tensor;
}

/* The program's text, in pieces. */
typedef struct ft__source {
    char lines[FT__CHUNK_COUNT][40];
    const char *parts[1 + 3 * FT__CHUNK_COUNT];
    cl_uint count;
    char *file;             /* the text of ft_desc.kernels_path; NULL: the chunks compiled in */
} ft__source;

/* Whether the program of the tiled products needs this chunk: the products, and what they call. */
static bool ft__chunk_is_of_tiles(int chunk)
{
    return chunk == FT__KERNEL_activations || chunk == FT__KERNEL_gather
        || chunk == FT__KERNEL_gather_tiled || chunk == FT__KERNEL_weight_tiled;
}

static bool ft__source_make(ft__context *c, ft__source *source, bool of_tiles)
{
    static const char pattern[] = "#line %d \"kernels.cl\"\n";
    size_t bytes;
    int i, at = 0;
    memset(source, 0, sizeof *source);
    if (c->desc.kernels_path) {
        source->file = (char *)ft__read_file(c, c->desc.kernels_path, &bytes); /* ends with a 0 */
        snprintf(source->lines[0], sizeof source->lines[0], pattern, 1);
        source->parts[0] = source->lines[0];
        source->parts[1] = source->file;
        source->count = 2;
        return source->file != NULL;
    }
    source->parts[at++] = ft__kernel_macros;
    for (i = 0; i < FT__CHUNK_COUNT; ++i) {
        if (of_tiles && !ft__chunk_is_of_tiles(i)) continue;
        snprintf(source->lines[i], sizeof source->lines[i], pattern, ft__kernel_texts[i].line);
        source->parts[at++] = source->lines[i];
        source->parts[at++] = ft__needs_tensor_cores(i) && !c->device->tensor ? ""
            : ft__kernel_texts[i].text;
        source->parts[at++] = "\n";
    }
    source->count = (cl_uint)at;
    return true;
}

/* The compiler's options: the device's widest floating-point type, and the sizes of tiles. */
static void ft__build_options(ft__device *d, int tile)
{   /* with 128 registers two work-groups of 256 can run at once */
#ifdef FINETUNE_EMULATE_MMA
    const char *tensor = " -DFINETUNE_MMA -DFINETUNE_EMULATE_MMA";
#else
    const char *tensor = " -DFINETUNE_MMA";
#endif
    bool wide = ft__cl_number(&d->cl, d->place.device, CL_DEVICE_DOUBLE_FP_CONFIG) != 0;
    const ft__tile *t = &ft__cl_tiles[tile];
    snprintf(d->build_options, sizeof d->build_options, "-DWIDEST=%s -DTILE_GROUP=%d -DTILE_Y=%d"
             " -DTILE_X=%d -DTILE_DEPTH=%d%s%s", wide ? "double" : "float", t->group, t->y, t->x,
             t->depth, d->is_nvidias ? " -cl-nv-maxrregcount=128" : "", d->tensor ? tensor : "");
}

/* ---- A build that fails ---- */

/* The line in a compiler's "FILE:LINE:COLUMN: error: ...", or 0. */
static int ft__line_of_error(const char *at)
{
    for (; *at && *at != '\n'; ++at)
        if (at[0] == ':' && at[1] >= '0' && at[1] <= '9') return atoi(at + 1);
    return 0;
}

/* The chunk that contains a line: its name, and the line where it begins. */
static void ft__chunk_at(const ft__source *source, int line, char name[64], int *first)
{
    const char *at = source->file;
    int i;
    snprintf(name, 64, "?");
    *first = line;
    for (i = 0; !source->file && i < FT__CHUNK_COUNT; ++i)
        if (ft__kernel_texts[i].line <= line) {
            snprintf(name, 64, "%s", ft__kernel_texts[i].name);
            *first = ft__kernel_texts[i].line;
        }
    for (i = 1; at && i <= line; ++i) {
        if (sscanf(at, "FINETUNE_LINE FINETUNE_CL(%63[a-z0-9_]", name) == 1) *first = i;
        at = strchr(at, '\n');
        if (at) at += 1;
    }
}

/* Reports the driver's log from the first error on, with its kernel in front. */
static void ft__build_failed(ft__context *c, const ft__source *source, cl_program program,
                             cl_int code)
{
    ft__device *d = c->device;
    const char *path = c->desc.kernels_path ? c->desc.kernels_path : "kernels.cl", *at;
    char *log = (char *)ft__allocate(c, 1 << 16, 1), name[64];
    int line, first;
    if (!log) return;
    d->cl.clGetProgramBuildInfo(program, d->place.device, CL_PROGRAM_BUILD_LOG, (1 << 16) - 1, log,
                                NULL);
    at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n') --at;
    if (!at) at = log;
    line = ft__line_of_error(at);
    ft__chunk_at(source, line, name, &first);
    d->lost = true;
    if (line > 0)
        ft__fail(c, FT_DEVICE, "%s cannot build kernel %s, which starts at line %d of %s%s: %.700s",
                 d->name, name, first, path, source->file ? ""
                 : " (ft_desc.kernels_path gives the true line)", at);
    else
        ft__fail(c, FT_DEVICE, "%s cannot build %s: %s (%d): %.700s", d->name, path,
                 ft__cl_error_name(code), (int)code, at);
    ft__release(c, log);
}

static cl_program ft__program_of_source(ft__context *c, const ft__source *source)
{
    ft__device *d = c->device;
    cl_int code = CL_SUCCESS;
    const char *parts[1 + 3 * FT__CHUNK_COUNT]; /* OpenCL wants a pointer to non-const */
    cl_program program;
    memcpy(parts, source->parts, sizeof parts);
    program = d->cl.clCreateProgramWithSource(d->context, source->count, parts, NULL, &code);
    if (!program || code != CL_SUCCESS) {
        ft__cl_failed(c, "clCreateProgramWithSource", "", code);
        return NULL;
    }
    code = d->cl.clBuildProgram(program, 1, &d->place.device, d->build_options, NULL, NULL);
    if (code == CL_SUCCESS) return program;
    ft__build_failed(c, source, program, code);
    d->cl.clReleaseProgram(program);
    return NULL;
}

/* ---- Kept for the next start ---- */
enum { FT__PROGRAM_HEADER = 32, FT__MOST_PROGRAM = 1 << 28 };

typedef struct ft__program_file {
    uint64_t made_from;
    char path[1200];
} ft__program_file;

/* One file per device and kind: another driver's or version's replaces it. */
static bool ft__program_file_make(ft__context *c, const ft__source *source, const char *kind,
                                  ft__program_file *file)
{
    ft__device *d = c->device;
    uint64_t device = ft__hash_bytes(sizeof(void *), d->name, strlen(d->name));
    cl_uint i;
    int length;
    if (!c->desc.cache) return false;
    file->made_from = ft__hash_bytes(device, d->driver, strlen(d->driver));
    file->made_from = ft__hash_bytes(file->made_from, d->build_options, strlen(d->build_options));
    for (i = 0; i < source->count; ++i)
        file->made_from = ft__hash_bytes(file->made_from, source->parts[i],
                                         strlen(source->parts[i]));
    length = ft__print(file->path, sizeof file->path, "%s/opencl-%016llx.%s", c->desc.cache,
                      (unsigned long long)device, kind);
    return length > 0 && (size_t)length < sizeof file->path;
}

static void ft__program_header(const ft__program_file *file, const unsigned char *binary,
                               size_t bytes, unsigned char header[FT__PROGRAM_HEADER])
{
    uint64_t numbers[3];
    numbers[0] = file->made_from;
    numbers[1] = bytes;
    numbers[2] = ft__hash_bytes(file->made_from ^ ft__mix(bytes), binary, bytes);
    memcpy(header, "ftprog1", 8);
    memcpy(header + 8, numbers, sizeof numbers);
}

/* The file's bytes, or NULL if there is no file or it cannot be read. */
static unsigned char *ft__program_bytes(ft__context *c, const char *path, size_t *bytes)
{
    const ft_files *files = &c->desc.files;
    void *file = files->open(files->user, path, false);
    unsigned char *content = NULL;
    int64_t size;
    if (!file) return NULL;
    size = files->size(files->user, file);
    if (size >= 0 && size <= FT__MOST_PROGRAM)
        content = (unsigned char *)ft__allocate(c, (size_t)size + 1, 1);
    *bytes = content ? (size_t)size : 0;
    if (content) *bytes = files->read(files->user, file, 0, content, *bytes);
    files->close(files->user, file);
    return content;
}

/* The bytes after the header of a valid file; the header is just before them. NULL if the file is
   missing or invalid: then `what` happens, as the log says. */
static unsigned char *ft__program_read(ft__context *c, const ft__program_file *file,
                                       size_t *bytes, const char *what)
{
    unsigned char want[FT__PROGRAM_HEADER], *content, *binary;
    content = ft__program_bytes(c, file->path, bytes);
    if (!content) return NULL;
    binary = content + FT__PROGRAM_HEADER;
    *bytes = *bytes > FT__PROGRAM_HEADER ? *bytes - FT__PROGRAM_HEADER : 0;
    ft__program_header(file, binary, *bytes, want);
    if (*bytes > 0 && memcmp(content, want, sizeof want) == 0) return binary;
    ft__log(c, "%s: made for another driver or version, or damaged: %s", file->path, what);
    ft__release(c, content);
    return NULL;
}

/* A failure is no error: it only slows the next start. */
static void ft__program_write(ft__context *c, const ft__program_file *file,
                              const unsigned char *binary, size_t bytes, const char *what)
{
    unsigned char header[FT__PROGRAM_HEADER];
    ft__saving to;
    if (!ft__ok(c)) return;
    if (binary && ft__saving_begin(&to, c, file->path)) {
        ft__program_header(file, binary, bytes, header);
        ft__saving_write(&to, header, sizeof header);
        ft__saving_write(&to, binary, bytes);
        if (ft__saving_end(&to, true)) what = NULL;
    }
    if (what) ft__log(c, "%s: %s cannot be saved there", file->path, what);
    if (binary) ft__saving_free(&to);
}

/* The program that was kept, or NULL if it must be compiled. */
static cl_program ft__program_of_file(ft__context *c, const ft__program_file *file)
{
    ft__device *d = c->device;
    size_t bytes = 0;
    unsigned char *content = ft__program_read(c, file, &bytes, "the kernels are compiled again");
    const unsigned char *binary = content;
    cl_int code = CL_SUCCESS, loaded = CL_SUCCESS;
    cl_program program;
    if (!content) return NULL;
    program = d->cl.clCreateProgramWithBinary(d->context, 1, &d->place.device, &bytes, &binary,
                                              &loaded, &code);
    if (program && (code != CL_SUCCESS || loaded != CL_SUCCESS
        || d->cl.clBuildProgram(program, 1, &d->place.device, d->build_options, NULL, NULL)
           != CL_SUCCESS)) {
        d->cl.clReleaseProgram(program);
        program = NULL;
    }
    ft__log(c, program ? "%s: the compiled kernels are loaded from it"
                       : "%s: the driver refuses it: the kernels are compiled again", file->path);
    ft__release(c, content - FT__PROGRAM_HEADER);
    return program;
}

static void ft__program_keep(ft__context *c, const ft__program_file *file, cl_program program)
{
    ft__device *d = c->device;
    unsigned char *binary = NULL;
    size_t bytes = 0;
    if (d->cl.clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL)
        == CL_SUCCESS && bytes > 0 && bytes < FT__MOST_PROGRAM)
        binary = (unsigned char *)ft__allocate(c, bytes, 1);
    if (binary && d->cl.clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary,
                                         NULL) != CL_SUCCESS) {
        ft__release(c, binary);
        binary = NULL;
    }
    ft__program_write(c, file, binary, bytes, "the compiled kernels");
    ft__release(c, binary);
}

/* The whole program, with the first sizes of tiles, or only the tiled products with other sizes. A
   trial's is neither read from the folder nor kept there. */
static cl_program ft__program_build(ft__context *c, int tile, bool trial)
{
    cl_program program = NULL;
    ft__source source;
    ft__program_file file;
    bool kept;
    ft__build_options(c->device, tile);
    if (!ft__source_make(c, &source, tile > 0)) return NULL;
    kept = !trial && ft__program_file_make(c, &source, tile > 0 ? "tiles" : "program", &file);
    if (kept) program = ft__program_of_file(c, &file);
    if (!program && ft__ok(c)) {
        program = ft__program_of_source(c, &source);
        if (program && kept) ft__program_keep(c, &file, program);
    }
    ft__release(c, source.file);
    return program;
}

/* The file of the chosen tile: it depends on all kernels, as any may have been compared with it. */
static bool ft__tile_file(ft__context *c, ft__program_file *file)
{
    ft__source source;
    bool made;
    ft__build_options(c->device, 0);
    made = ft__source_make(c, &source, false)
        && ft__program_file_make(c, &source, "tile", file);
    ft__release(c, source.file);
    return made;
}

/* Which of ft__cl_tiles has these sizes; -1: none. */
static int ft__tile_of(const ft__tile *t)
{
    int i;
    for (i = 0; i < FT__TILE_COUNT; ++i)
        if (memcmp(&ft__cl_tiles[i], t, sizeof *t) == 0) return i;
    return -1;
}

/* The tile that an earlier run chose; -1: none. */
static int ft__tile_kept(ft__context *c)
{
    ft__program_file file;
    unsigned char *content = NULL;
    size_t bytes = 0;
    ft__tile tile;
    int found = -1;
    if (ft__tile_file(c, &file))
        content = ft__program_read(c, &file, &bytes, "the tile sizes are chosen again");
    if (!content) return -1;
    if (bytes == sizeof tile) {
        memcpy(&tile, content, sizeof tile);
        found = ft__tile_of(&tile);
    }
    if (found >= 0) ft__log(c, "%s: the tile sizes of an earlier run are used", file.path);
    ft__release(c, content - FT__PROGRAM_HEADER);
    return found;
}

static void ft__tile_keep(ft__context *c)
{
    ft__program_file file;
    unsigned char sizes[sizeof(ft__tile)];
    memcpy(sizes, &ft__cl_tiles[c->device->tile], sizeof sizes);
    if (ft__tile_file(c, &file)) ft__program_write(c, &file, sizes, sizeof sizes, "the tile sizes");
}
#endif /* FINETUNE_OPENCL */
