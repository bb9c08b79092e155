/* devices.h - lists the devices for --device; --check shows how well each operator runs there.
   Part of examples/finetune.c. */

enum { MOST_DEVICES = 32 };

static void print_devices_json(const ft_device_info *list, int count, long processors)
{
    int i;
    printf("{\"devices\": [{\"device\": \"cpu\", \"processors\": %ld}", processors);
    for (i = 0; i < count; ++i) {
        printf(", {\"device\": \"%s\", \"name\": ", list[i].device);
        print_json_text(list[i].name);
        printf(", \"platform\": ");
        print_json_text(list[i].platform);
        printf(", \"driver\": ");
        print_json_text(list[i].driver);
        printf(", \"memory\": %llu, \"compute_units\": %d, \"is_processor\": %s}",
               (unsigned long long)list[i].memory, list[i].compute_units,
               list[i].is_processor ? "true" : "false");
    }
    printf("]}\n");
}

enum { MOST_CHECKS = 256 };

static void print_check(const ft_device_check *c, bool json, bool first)
{
    if (json) {
        printf("%s{\"operator\": \"%s\", \"shape\": \"%s\", \"error\": %.3g, \"device_seconds\": "
               "%.3g, \"cpu_seconds\": %.3g, \"choice\": \"%s\"}", first ? "" : ", ", c->op,
               c->shape, (double)c->error, c->device_seconds, c->host_seconds, c->choice);
        return;
    }
    if (first) printf("  %-22s %-20s %11s %11s %9s  %s\n", "operator", "shape", "worst error",
                      "device, ms", "cpu, ms", "choice");
    if (!*c->shape) printf("  %-22s %-20s %11s %11s %9s  %s\n", c->op, "no kernel", "", "", "",
                           c->choice);
    else printf("  %-22s %-20s %11.2g %11.3f %9.3f  %s\n", c->op, c->shape, (double)c->error,
                1e3 * c->device_seconds, 1e3 * c->host_seconds, c->choice);
}

/* Compares every operator on a device with the processor. */
static int check_device(const options *o, const char *device)
{
    static ft_device_check checks[MOST_CHECKS];
    options named = *o;
    ft_model *m;
    int count, i;
    named.device = device;
    if (!(m = create(&named))) return FAILED;
    ft_check_device(m);
    if (ft_error(m)) return report(m);
    count = ft_device_checks(m, checks, MOST_CHECKS);
    if (o->json) printf("{\"device\": \"%s\", \"checks\": [", device);
    for (i = 0; i < count && i < MOST_CHECKS; ++i) print_check(&checks[i], o->json, i == 0);
    if (o->json) printf("]}\n");
    ft_destroy(m);
    return DONE;
}

static int devices(const options *o)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    ft_device_info list[MOST_DEVICES];
    options plain = *o;
    ft_model *m;
    int count, i, status = DONE;
    bool asks = opencl_survives(o);
    if (o->check) plain.device = NULL;
    if (!(m = create(&plain))) return FAILED;
    if (!o->json) printf("cpu: %ld processors\n", processors);
    fflush(stdout); /* before the log line that says why there are no others */
    count = asks ? ft_devices(m, list, MOST_DEVICES) : 0;
    if (count > MOST_DEVICES) count = MOST_DEVICES;
    if (o->json && (!o->check || count == 0)) print_devices_json(list, count, processors);
    for (i = 0; i < count; ++i) {
        bool wanted = o->check && (!o->device || !strcmp(o->device, list[i].device));
        if (!o->json)
            printf("%s: %s (%s, driver %s), %.1f GB, %d compute units%s\n", list[i].device,
                   list[i].name, list[i].platform, list[i].driver, (double)list[i].memory / 1e9,
                   list[i].compute_units, list[i].is_processor ? ", the processor itself" : "");
        fflush(stdout);
        if (wanted && check_device(o, list[i].device) != DONE) status = FAILED;
    }
    if (ft_error(m)) return report(m);
    ft_destroy(m);
    return status;
}
