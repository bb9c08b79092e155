/* tries.h - by tests/tries.awk: part of test_arguments.c. */
{ static ft_input_options zero; TRY(ft_input(m, NULL, zero)); }
{ static ft_parameter_options zero; TRY(ft_parameter(m, NULL, zero)); }
{ TRY(ft_constant(m, NULL, 1, NULL, NULL)); }
{ static ft_conv2d_options zero; TRY(ft_conv2d(m, NULL, x, 1, zero)); }
{ static ft_conv1d_options zero; TRY(ft_conv1d(m, NULL, x, 1, zero)); }
{ static ft_conv_transpose2d_options zero; TRY(ft_conv_transpose2d(m, NULL, x, 1, zero)); }
{ static ft_linear_options zero; TRY(ft_linear(m, NULL, x, 1, zero)); }
{ static ft_batch_norm_options zero; TRY(ft_batch_norm(m, NULL, x, zero)); }
{ static ft_layer_norm_options zero; TRY(ft_layer_norm(m, NULL, x, zero)); }
{ static ft_rms_norm_options zero; TRY(ft_rms_norm(m, NULL, x, zero)); }
{ static ft_group_norm_options zero; TRY(ft_group_norm(m, NULL, x, zero)); }
{ static ft_pool2d_options zero; TRY(ft_max_pool2d(m, NULL, x, zero)); }
{ static ft_pool2d_options zero; TRY(ft_avg_pool2d(m, NULL, x, zero)); }
{ TRY(ft_global_avg_pool(m, NULL, x)); }
{ TRY(ft_global_max_pool(m, NULL, x)); }
{ TRY(ft_flatten(m, NULL, x)); }
{ TRY(ft_reshape(m, NULL, x, 1, NULL)); }
{ TRY(ft_add(m, NULL, x, x)); }
{ TRY(ft_mul(m, NULL, x, x)); }
{ TRY(ft_binary(m, NULL, NULL, x, x)); }
{ static ft_unary_options zero; TRY(ft_unary(m, NULL, NULL, x, zero)); }
{ static ft_reduce_options zero; TRY(ft_reduce(m, NULL, NULL, x, zero)); }
{ TRY(ft_where(m, NULL, x, x, x)); }
{ TRY(ft_concat(m, NULL, 1, NULL, 1)); }
{ static ft_resize_options zero; TRY(ft_resize(m, NULL, x, zero)); }
{ static ft_pad_options zero; TRY(ft_pad(m, NULL, x, zero)); }
{ static ft_slice_options zero; TRY(ft_slice(m, NULL, x, zero)); }
{ static ft_tile_options zero; TRY(ft_tile(m, NULL, x, zero)); }
{ TRY(ft_permute(m, NULL, x, 1, NULL)); }
{ TRY(ft_gather(m, NULL, x, x, 1)); }
{ static ft_topk_options zero; TRY(ft_topk(m, NULL, x, zero)); }
{ static ft_cumsum_options zero; TRY(ft_cumsum(m, NULL, x, zero)); }
{ static ft_token_counts_options zero; TRY(ft_token_counts(m, NULL, x, x, zero)); }
{ static ft_matmul_options zero; TRY(ft_matmul(m, NULL, x, x, zero)); }
{ static ft_attention_options zero; TRY(ft_attention(m, NULL, x, x, x, zero)); }
{ static ft_rotary_options zero; TRY(ft_rotary(m, NULL, x, zero)); }
{ static ft_add_positions_options zero; TRY(ft_add_positions(m, NULL, x, 1, zero)); }
{ static ft_embedding_options zero; TRY(ft_embedding(m, NULL, x, 1, 1, zero)); }
{ static ft_recurrent_options zero; TRY(ft_lstm(m, NULL, x, 1, zero)); }
{ static ft_recurrent_options zero; TRY(ft_gru(m, NULL, x, 1, zero)); }
{ static ft_recurrent_options zero; TRY(ft_rnn(m, NULL, x, 1, zero)); }
{ static ft_step_pool_options zero; TRY(ft_step_pool(m, NULL, x, x, zero)); }
{ static ft_dropout_options zero; TRY(ft_dropout(m, NULL, x, zero)); }
{ static ft_custom_options zero; TRY(ft_custom(m, NULL, NULL, 1, zero)); }
{ static ft_activation_options zero; TRY(ft_activation(m, NULL, NULL, x, zero)); }
{ TRY(ft_activation_kind(1)); }
{ static ft_loss_options zero; TRY(ft_cross_entropy(m, NULL, x, x, zero)); }
{ static ft_loss_options zero; TRY(ft_linear_cross_entropy(m, NULL, x, x, x, x, zero)); }
{ TRY(ft_soft_cross_entropy(m, NULL, x, x)); }
{ TRY(ft_binary_cross_entropy(m, NULL, x, x)); }
{ TRY(ft_mse(m, NULL, x, x)); }
{ static ft_loss_options zero; TRY(ft_ctc_loss(m, NULL, x, x, zero)); }
{ static ft_loss_options zero; TRY(ft_loss_by_kind(m, NULL, NULL, x, x, zero)); }
{ static ft_loss_options zero; TRY(ft_embedding_loss(m, NULL, NULL, x, x, x, zero)); }
{ static ft_loss_options zero; TRY(ft_distillation(m, NULL, x, x, x, zero)); }
