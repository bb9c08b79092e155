/* test_accuracy.c - accuracies that users will see, against PyTorch's on the same files. They take
   minutes: LONG=1 (make test-long) runs them.
     keras_cnn and its adjusted form on cifar10_png: 10 epochs, Adam with Keras' defaults, batch 32,
     six seeds; PyTorch's mean test accuracy is 0.498 and 0.501. Six seeds differ by up to 6 points,
     so one has a standard deviation of 6 / 2.53 = 2.4 (the range of six normal numbers is 2.53 of
     theirs), and the difference of two means of six 2.4 * sqrt(2 / 6) = 1.4: the bound of 3 points
     is 2.2 of these. Half of it would take four times the seeds, of both sides.
     a head on the frozen class token of dinov2_small, ants_bees: logistic regression gets 130 to 132
     of 153 right, PyTorch with the same 30 epochs 129. */
#include "check.h"
#include "finetune.h"

static double train_keras_cnn(const char *data, bool adjusted, uint64_t seed)
{
    char path[700];
    ft_network_options network = {.adjusted = adjusted};
    ft_fit_options fit = {.epochs = 10, .batch_size = 32};
    ft_image_folder_options train = {.per_class = 0}, test = {.match_classes = true};
    ft_evaluate_options evaluate = {.batch_size = 100};
    ft_desc desc = {.seed = seed};
    ft_model *m = ft_create(desc);
    ft_evaluation e;
    fit.optimizer.optimizer = FT_ADAM;
    fit.optimizer.learning_rate = 1e-3f;
    fit.optimizer.eps = 1e-7f;
    ft_network(m, "keras_cnn", network);
    snprintf(path, sizeof path, "%s/images/cifar10_png/train", data);
    ft_fit(m, ft_image_folder(m, path, train), fit);
    snprintf(path, sizeof path, "%s/images/cifar10_png/test", data);
    e = ft_evaluate(m, ft_image_folder(m, path, test), evaluate);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    ft_destroy(m);
    return e.accuracy;
}

static void train_dinov2_head(const char *data)
{
    char path[700];
    ft_fit_options fit = {.epochs = 30, .batch_size = 32};
    ft_image_folder_options all = {.per_class = 0};
    ft_evaluate_options evaluate = {.batch_size = 32};
    ft_load_options load = {.network = {.classes = 2}};
    ft_desc desc = {.seed = 1};
    ft_model *m = ft_create(desc);
    ft_evaluation e;
    fit.optimizer.learning_rate = 2e-3f;
    fit.optimizer.weight_decay = 0.01f;
    snprintf(path, sizeof path, "%s/weights/dinov2_small", data);
    ft_load(m, path, load);
    ft_freeze(m, "*");
    ft_unfreeze(m, "classifier*");
    snprintf(path, sizeof path, "%s/images/ants_bees/train", data);
    ft_fit(m, ft_image_folder(m, path, all), fit);
    snprintf(path, sizeof path, "%s/images/ants_bees/val", data);
    e = ft_evaluate(m, ft_image_folder(m, path, all), evaluate);
    CHECK(ft_error(m) == FT_OK, "%s", ft_error_text(m));
    CHECK(e.correct >= 130 && e.total == 153, "dinov2_small: %d of %d", e.correct, e.total);
    printf("dinov2_small, a head on frozen features: %d of %d (130 to 132)\n", e.correct, e.total);
    ft_destroy(m);
}

int main(void)
{
    const char *data = getenv("FINETUNE_DATA");
    char path[700];
    FILE *probe;
    int form;
    if (!data) data = "../shared/data";
    snprintf(path, sizeof path, "%s/README.md", data);
    probe = fopen(path, "rb");
    if (!probe || !getenv("LONG")) {
        SKIP(probe ? "takes minutes: make test-long" : "no FINETUNE_DATA");
        if (probe) fclose(probe);
        return check_done("test_accuracy");
    }
    fclose(probe);
    train_dinov2_head(data);
    for (form = 0; form < 2; ++form) {
        static const double of_pytorch[] = {0.498, 0.501};
        double sum = 0;
        uint64_t seed;
        for (seed = 1; seed <= 6; ++seed) sum += train_keras_cnn(data, form == 1, seed);
        CHECK(fabs(sum / 6 - of_pytorch[form]) <= 0.03, "keras_cnn%s: mean %.3f, PyTorch %.3f",
              form ? ", adjusted" : "", sum / 6, of_pytorch[form]);
        printf("keras_cnn%s: mean accuracy %.3f (PyTorch %.3f)\n", form ? ", adjusted" : "",
               sum / 6, of_pytorch[form]);
    }
    return check_done("test_accuracy");
}
