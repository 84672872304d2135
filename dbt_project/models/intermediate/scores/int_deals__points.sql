{{ points_of([ref('ftr_deals__explicit'), ref('ftr_deals__implicit')]) }}
