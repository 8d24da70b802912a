import { Module, type OnModuleInit } from '@nestjs/common';
import { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';

import { CATALOGUE } from './catalogue.js';
import { Product } from './product.entity.js';
import { ProductsController } from './products.controller.js';
import { Reservation } from './reservation.entity.js';
import { StockService } from './stock.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Product, Reservation])],
  controllers: [ProductsController],
  providers: [StockService],
  exports: [TypeOrmModule, StockService],
})
export class StockModule implements OnModuleInit {
  constructor(@InjectRepository(Product) private readonly products: Repository<Product>) {}

  /** Fills the shelves of a new shop. */
  async onModuleInit(): Promise<void> {
    await this.products.createQueryBuilder().insert().values(CATALOGUE.slice()).orIgnore().execute();
  }
}
