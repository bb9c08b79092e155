/* library.c - the library with the pictures' decoder, compiled once for all fuzz targets: under
   sanitizers, and with -fsanitize-coverage=trace-pc for the driver to see what an input reaches. */
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#define FINETUNE_IMPLEMENTATION
#include "finetune.h"
