{{ points_of([ref('ftr_contacts__implicit')]) }}
