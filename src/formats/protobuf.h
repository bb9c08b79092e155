#pragma once
#include "interface/types.h"
#include "platform/context.h"
#include "formats/readers.h"

/* =============================================================================================
   [SECTION] formats/protobuf: Protobuf messages
   A message is a row of fields, each a key and a number or a run of bytes, which may be a message.
   No byte outside of the message is read.
   ============================================================================================= */
typedef struct ft__proto {
    ft_file *file;
    uint64_t at, end;
    int field, wire;
    uint64_t number;        /* of wire types 0, 1 and 5 */
    uint64_t from, bytes;   /* of wire type 2 */
} ft__proto;

static FT__UNUSED bool ft__proto_fault(ft__proto *p, const char *what)
{
    ft__fail(p->file->context, FT_FORMAT, "%s: damaged: %s at offset %llu", p->file->path, what,
             (unsigned long long)p->at);
    p->at = p->end;
    return false;
}

static FT__UNUSED uint64_t ft__proto_varint(ft__proto *p)
{
    uint64_t value = 0;
    int shift;
    for (shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        unsigned char seven = p->file->bytes[p->at++]; /* bits, and whether more follow */
        value |= (uint64_t)(seven & 0x7f) << shift;
        if (!(seven & 0x80)) return value;
    }
    ft__proto_fault(p, "a number without end");
    return 0;
}

/* The next field; false after the last one, or with an error. */
static FT__UNUSED bool ft__proto_next(ft__proto *p)
{
    uint64_t key;
    if (p->at >= p->end || !ft__ok(p->file->context)) return false;
    key = ft__proto_varint(p);
    if (!ft__ok(p->file->context)) return false;
    p->field = key >> 3 > 0x1fffffff ? 0 : (int)(key >> 3);
    p->wire = (int)(key & 7);
    if (p->field == 0) return ft__proto_fault(p, "a field of number 0");
    if (p->wire == 0) p->number = ft__proto_varint(p);
    else if (p->wire == 1 || p->wire == 5) {
        int bytes = p->wire == 1 ? 8 : 4;
        if (p->end - p->at < (uint64_t)bytes) return ft__proto_fault(p, "a number cut short");
        p->number = ft__little_endian(p->file->bytes + p->at, bytes);
        p->at += (uint64_t)bytes;
    } else if (p->wire == 2) {
        p->bytes = ft__proto_varint(p);
        if (ft__ok(p->file->context) && p->bytes > p->end - p->at)
            return ft__proto_fault(p, "bytes that go past their message");
        p->from = p->at;
        p->at += p->bytes;
    } else return ft__proto_fault(p, "a field of no known kind");
    return ft__ok(p->file->context);
}

static FT__UNUSED ft__proto ft__proto_message(ft_file *file, uint64_t from, uint64_t bytes)
{
    ft__proto p;
    memset(&p, 0, sizeof p);
    p.file = file;
    p.at = from;
    p.end = from + bytes;
    return p;
}

static FT__UNUSED ft__proto ft__proto_inside(const ft__proto *p)
{
    return ft__proto_message(p->file, p->wire == 2 ? p->from : p->at, p->wire == 2 ? p->bytes : 0);
}
