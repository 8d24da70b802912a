import { ConfigurableModuleBuilder } from '@nestjs/common';
import type { OrchestrationModuleOptions } from './module-options.js';

/** `setExtras` alone does not make a module global: its transform has to say so. */
export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<OrchestrationModuleOptions>({
    moduleName: 'Orchestration',
  })
    .setClassMethodName('forRoot')
    .setExtras<{
      /** A second engine in one process has a name. */
      name?: string;
    }>({ name: undefined }, (definition) => ({ ...definition, global: true }))
    .build();
